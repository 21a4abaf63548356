// Sizes, pixels and patches against checksums of transformers 5.17.0 and torchvision 0.26.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "worker/image/qwen_patches.h"
#include "worker/image/resize_bicubic.h"
#include "worker/image/resize_passes.h"

namespace facet {
namespace {

using nlohmann::json;

json goldens() {
  std::ifstream file(std::string(FACET_SOURCE_DIR) + "/tests/data/image/goldens.json");
  return json::parse(file);
}

std::uint32_t crc32(std::span<const std::uint8_t> bytes) {
  std::uint32_t crc = ~0u;
  for (const std::uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0u);
  }
  return ~crc;
}

// The picture of scripts/make_text_image_goldens.py.
RgbImage picture(std::int64_t height, std::int64_t width, unsigned seed) {
  RgbImage image({height, width});
  auto* out = image.pixels.data();
  for (unsigned y = 0; y < height; ++y) {
    for (unsigned x = 0; x < width; ++x) {
      for (unsigned c = 0; c < 3; ++c) {
        const unsigned value = (x * (7 + seed) + y * (13 + 3 * seed) + c * 85) ^ ((x * y) >> 3);
        *out++ = static_cast<std::uint8_t>(value & 255);
      }
    }
  }
  return image;
}

// The same pixels in rows with a gap, as they may lie in shared memory.
struct Strided {
  std::vector<std::uint8_t> bytes;
  RgbView view;

  explicit Strided(RgbImage& image, std::size_t gap = 13) {
    const std::size_t stride = image.stride_bytes() + gap;
    bytes.assign(stride * static_cast<std::size_t>(image.size.height), 0xEE);
    bytes.resize(bytes.size() - gap);  // nothing may be read past the last pixel
    for (std::int64_t y = 0; y < image.size.height; ++y) {
      std::copy_n(image.row(y), image.stride_bytes(),
                  bytes.begin() + y * static_cast<std::int64_t>(stride));
    }
    view = {bytes.data(), image.size, stride};
  }
};

TEST(SmartResize, EqualsTheReference) {
  const json all = goldens();
  for (const auto& golden : all["smart_resize"]) {
    const auto size = smart_resize({golden[0], golden[1]}, 28, golden[2], golden[3]);
    ASSERT_EQ(size.has_value(), !golden[4].is_null()) << golden;
    if (size) {
      EXPECT_EQ(*size, (ImageSize{golden[4][0], golden[4][1]})) << golden;
    }
  }
}

TEST(SmartResize, TableOfKnownSizes) {
  const std::int64_t table[][4] = {
      {224, 224, 224, 224},      {480, 640, 476, 644}, {1024, 1024, 1036, 1036},
      {1080, 1920, 1092, 1932},  {70, 42, 56, 56},     {14, 14, 56, 56},
      {20, 300, 28, 308},        {4000, 6000, 2912, 4368}};
  for (const auto& row : table) {
    EXPECT_EQ(smart_resize({row[0], row[1]}, 28, 3136, 12845056).value(),
              (ImageSize{row[2], row[3]}));
  }
}

TEST(SmartResize, RefusesEmptyAndNarrowImagesWithTheirSize) {
  EXPECT_FALSE(smart_resize({0, 5}, 28, 3136, 12845056));
  EXPECT_FALSE(smart_resize({5, -1}, 28, 3136, 12845056));
  const auto narrow = smart_resize({3, 601}, 28, 3136, 12845056);
  ASSERT_FALSE(narrow);
  EXPECT_NE(narrow.error().message.find("3x601"), std::string::npos);
  EXPECT_NE(narrow.error().message.find("200"), std::string::npos);
  EXPECT_TRUE(smart_resize({3, 600}, 28, 3136, 12845056));
}

TEST(ResizeBicubic, EqualsTheReferenceInEveryByte) {
  const json all = goldens();
  ASSERT_GT(all["resize"].size(), 30u);
  for (const auto& golden : all["resize"]) {
    RgbImage image = picture(golden[0], golden[1], golden[4]);
    const ImageSize to{golden[2], golden[3]};
    EXPECT_EQ(crc32(resize_bicubic(image.view(), to).pixels), golden[5]) << golden;
    EXPECT_EQ(crc32(resize_bicubic(Strided(image).view, to).pixels), golden[5]) << golden;
  }
}

TEST(ResizeBicubic, EveryKindOfCpuGivesTheSameBytes) {
  const ResizePasses* fast = avx2_resize_passes();
  if (fast == nullptr) return;  // this CPU has one kind
  for (const ImageSize from : {ImageSize{1, 1}, {2, 3}, {31, 5}, {64, 33}, {200, 301}}) {
    for (const ImageSize to : {ImageSize{1, 5}, {7, 6}, {28, 56}, {199, 300}, {400, 17}}) {
      RgbImage image = picture(from.height, from.width, 3);
      EXPECT_EQ(resize_bicubic_with(*fast, image.view(), to).pixels,
                resize_bicubic_with(plain_resize_passes(), image.view(), to).pixels);
    }
  }
}

TEST(ResizeBicubic, KeepsConstantImagesAndExtremeShapes) {
  for (const ImageSize from : {ImageSize{1, 1}, {1, 300}, {300, 1}, {5, 7}}) {
    for (const ImageSize to : {ImageSize{1, 1}, {28, 28}, {1, 500}, {500, 1}, {5, 7}}) {
      RgbImage image(from);
      std::fill(image.pixels.begin(), image.pixels.end(), std::uint8_t{201});
      const RgbImage out = resize_bicubic(image.view(), to);
      EXPECT_EQ(out.size, to);
      for (const std::uint8_t value : out.pixels) ASSERT_EQ(value, 201);
    }
  }
}

TEST(QwenPatches, EqualTheReferenceInEveryBit) {
  const json all = goldens();
  for (const auto& golden : all["patches"]) {
    RgbImage image = picture(golden[0], golden[1], golden[2]);
    const auto settings = parse_qwen_image_settings(golden[3]).value();
    const auto plan = plan_qwen_image(image.size, settings).value();
    EXPECT_EQ((std::vector{plan.grid_t, plan.grid_h, plan.grid_w}),
              golden[4].get<std::vector<std::int64_t>>());
    EXPECT_EQ((std::vector{plan.num_patches(), plan.patch_floats}),
              golden[5].get<std::vector<std::int64_t>>());
    EXPECT_EQ(plan.num_tokens, plan.num_patches() / 4);
    std::vector<float> out(static_cast<std::size_t>(plan.num_floats()));
    write_qwen_patches(Strided(image).view, settings, plan, out);
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(out.data());
    EXPECT_EQ(crc32({bytes, out.size() * sizeof(float)}), golden[6]) << golden;
  }
}

}  // namespace
}  // namespace facet
