// Images on their way to the encoder, pass after pass, against worker/image: value for value.
#include "worker/model/cuda/image_upload.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/gpu/device_data.h"

namespace facet {
namespace {

using kernels::check_cuda;
using kernels::DeviceBytes;
using kernels::DType;
using Size = std::size_t;

struct Picture {
  ImageSize size;
  Size padding = 0;  // bytes behind each row
};

// Pixels, and the view of them.
struct Pixels {
  Pixels(const Picture& picture, std::mt19937& random)
      : stride(static_cast<Size>(picture.size.width) * 3 + picture.padding),
        bytes(stride * static_cast<Size>(picture.size.height)),
        size(picture.size) {
    for (auto& byte : bytes)
      byte = static_cast<std::uint8_t>(random() % 4 == 0 ? (random() % 2) * 255 : random() % 256);
  }
  RgbView view() const { return {bytes.data(), size, stride}; }

  Size stride;
  std::vector<std::uint8_t> bytes;
  ImageSize size;
};

std::vector<float> patches_of(const RgbView& view, const QwenImageSettings& settings,
                              const QwenImagePlan& plan, DType dtype) {
  std::vector<float> out(static_cast<Size>(plan.num_floats()));
  write_qwen_patches(view, settings, plan, out);
  for (float& value : out) value = kernels::round_to(dtype, value);
  return out;
}

struct Figures {
  Size passes = 0, images = 0, most_of_a_pass = 0;
};

// All pictures through passes as a runner makes them, many in flight; compared at the end.
Figures compare(const QwenImageSettings& settings, DType dtype,
                const std::vector<Picture>& pictures) {
  std::mt19937 random(kernels::next_seed());
  const CudaStream stream;
  const DeviceBytes region(cut_bytes<ImageUploadRegions>());
  ImageUpload upload(settings, dtype, region.get(), stream.get());
  std::vector<std::vector<float>> want;
  std::vector<DeviceBytes> got;
  Figures figures;
  for (Size next = 0; next < pictures.size();) {
    upload.begin_pass();
    Size in_pass = 0;
    for (; next < pictures.size(); ++next, ++in_pass) {
      Pixels pixels(pictures[next], random);
      const RgbView view = pixels.view();
      if (!upload.has_room(view)) break;
      const auto plan = plan_qwen_image(view.size, settings);
      if (!plan) {
        ADD_FAILURE() << plan.error().message;
        return figures;
      }
      want.push_back(patches_of(view, settings, *plan, dtype));
      got.emplace_back(want.back().size() * kernels::size_of(dtype));
      upload.add(view, *plan, got.back().get());
      std::ranges::fill(pixels.bytes, 0x55);  // they are not read any more
    }
    upload.end_pass();
    if (in_pass == 0) {
      ADD_FAILURE() << "a pass without room for one image";
      return figures;
    }
    ++figures.passes;
    figures.images += in_pass;
    figures.most_of_a_pass = std::max(figures.most_of_a_pass, in_pass);
  }
  check_cuda(cudaStreamSynchronize(stream.get()), "images");
  for (Size i = 0; i < pictures.size(); ++i)
    kernels::expect_same_bits("image " + std::to_string(pictures[i].size.height) + "x" +
                                  std::to_string(pictures[i].size.width) + " " +
                                  kernels::name_of(dtype),
                              kernels::download(dtype, got[i], want[i].size()), want[i]);
  return figures;
}

TEST(ImageUpload, OddSizesAndStrides) {
  const QwenImageSettings settings;
  std::vector<Picture> pictures = {{{1, 1}, 0},       {{56, 56}, 0},   {{57, 61}, 5},
                                   {{3, 500}, 1},     {{28, 2800}, 2}, {{1080, 1920}, 0},
                                   {{1081, 1919}, 9}, {{2000, 11}, 0}, {{481, 640}, 64}};
  std::mt19937 random(kernels::next_seed());
  for (int i = 0; i < 30; ++i)
    pictures.push_back({{static_cast<std::int64_t>(3 + random() % 400),
                         static_cast<std::int64_t>(3 + random() % 400)},
                        random() % 8});
  for (const DType dtype : {DType::kFp32, DType::kBf16, DType::kFp16}) {
    const Figures figures = compare(settings, dtype, pictures);
    EXPECT_EQ(figures.images, pictures.size());
  }
}

// Passes end where their memory does, and its parts are used again behind the copies.
TEST(ImageUpload, ManyPasses) {
  const QwenImageSettings settings;
  const std::vector<Picture> pictures(30, {{1500, 2000}, 0});  // 9 MB each
  const Figures figures = compare(settings, DType::kBf16, pictures);
  EXPECT_EQ(figures.images, pictures.size());
  EXPECT_EQ(figures.most_of_a_pass, 6U);  // a seventh might not find 4 MiB for its weights
  EXPECT_GE(figures.passes, 4U);
}

// Images that the device's memory does not hold are cut on the host, in parts, and a small one
// before or after one is not disturbed.
TEST(ImageUpload, LargerThanItsMemory) {
  QwenImageSettings settings;
  settings.max_pixels = 28 * 28 * 5120;  // 24 million values: more than one part in fp32
  const std::vector<Picture> pictures = {
      {{100, 90}, 1}, {{4801, 4801}, 0}, {{77, 300}, 0}, {{4900, 4703}, 2}, {{480, 640}, 0}};
  for (const DType dtype : {DType::kFp32, DType::kBf16, DType::kFp16}) {
    const Figures figures = compare(settings, dtype, pictures);
    EXPECT_EQ(figures.images, pictures.size());
  }
}

}  // namespace
}  // namespace facet
