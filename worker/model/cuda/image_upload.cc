#include "worker/model/cuda/image_upload.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <vector>

#include "common/base/check.h"

namespace facet {
namespace {

constexpr std::uint64_t kLine = 256;  // arrays begin at multiples of it

std::uint64_t padded(std::uint64_t bytes) {
  return (bytes + kLine - 1) / kLine * kLine;
}

std::uint64_t pixel_bytes(const RgbView& image) {
  return static_cast<std::uint64_t>(image.size.height * image.size.width) * 3;
}

void copy_rows(const RgbView& image, std::byte* to) {
  const auto row_bytes = static_cast<std::size_t>(image.size.width) * 3;
  if (image.stride_bytes == row_bytes) {
    std::memcpy(to, image.data, row_bytes * static_cast<std::size_t>(image.size.height));
    return;
  }
  for (std::int64_t y = 0; y < image.size.height; ++y, to += row_bytes)
    std::memcpy(to, image.row(y), row_bytes);
}

}  // namespace

ImageUploadRegions::ImageUploadRegions(Cutter& cutter)
    : pixels(cutter.take<std::byte>(ImageUpload::kBytes)),
      resized(cutter.take<std::byte>(ImageUpload::kBytes)),
      values(cutter.take<float>(3 * 256 * sizeof(float))) {}

ImageUpload::ImageUpload(const QwenImageSettings& settings, kernels::DType type, void* region,
                         cudaStream_t stream)
    : settings_(settings), device_(cut<ImageUploadRegions>(region)), stream_(stream) {
  const auto values = normalized_values(settings);
  static_assert(sizeof values == 3 * 256 * sizeof(float));
  FACET_CUDA(cudaMemcpy(device_.values, values.data(), sizeof values, cudaMemcpyHostToDevice));
  patches_.patch_size = static_cast<std::int32_t>(settings.patch_size);
  patches_.temporal_patch_size = static_cast<std::int32_t>(settings.temporal_patch_size);
  patches_.merge_size = static_cast<std::int32_t>(settings.merge_size);
  patches_.values = device_.values;
  patches_.dtype = type;
}

void ImageUpload::begin_pass() {
  slot_ = 1 - slot_;
  slots_[slot_].copied.wait();
  used_ = 0;
}

bool ImageUpload::has_room(const RgbView& image) const {
  return used_ == 0 || used_ + pixel_bytes(image) + kWeightBytes <= kBytes;
}

void ImageUpload::end_pass() {
  slots_[slot_].copied.record(stream_);
}

StepArray<std::byte> ImageUpload::stage(std::uint64_t bytes) {
  const std::uint64_t at = used_;
  used_ += padded(bytes);
  FACET_CHECK(used_ <= kBytes);
  return {{slots_[slot_].pixels.data() + at, static_cast<std::size_t>(bytes)}, device_.pixels + at};
}

void ImageUpload::send(const StepArray<std::byte>& staged) const {
  FACET_CUDA(cudaMemcpyAsync(staged.device, staged.host.data(), staged.host.size(),
                             cudaMemcpyHostToDevice, stream_));
}

template <class T>
const T* ImageUpload::send(const std::vector<T>& values) {
  const StepArray<std::byte> staged = stage(values.size() * sizeof(T));
  std::memcpy(staged.host.data(), values.data(), staged.host.size());
  send(staged);
  return reinterpret_cast<const T*>(staged.device);
}

kernels::ResizeAxis ImageUpload::send_axis(std::int64_t input, std::int64_t output) {
  kernels::ResizeAxis axis;
  if (input == output) return axis;
  const ResizeWeights weights = bicubic_weights(input, output);
  axis.begin = send(weights.begin);
  axis.count = send(weights.count);
  axis.weights = send(weights.weights);
  axis.num_taps = static_cast<std::int32_t>(weights.num_taps);
  axis.precision = static_cast<std::int32_t>(weights.precision);
  return axis;
}

void ImageUpload::add(const RgbView& image, const QwenImagePlan& plan, void* out) {
  const auto resized_rows = static_cast<std::uint64_t>(image.size.height * plan.resized.width) * 3;
  const bool fits = used_ + pixel_bytes(image) + kWeightBytes <= kBytes && resized_rows <= kBytes;
  if (fits)
    add_on_device(image, plan, out);
  else
    add_on_host(image, plan, out);
}

void ImageUpload::add_on_device(const RgbView& image, const QwenImagePlan& plan, void* out) {
  const StepArray<std::byte> pixels = stage(pixel_bytes(image));
  copy_rows(image, pixels.host.data());
  send(pixels);
  kernels::ImageJob job;
  job.pixels = reinterpret_cast<const std::uint8_t*>(pixels.device);
  job.stride_bytes = image.size.width * 3;
  job.height = static_cast<std::int32_t>(image.size.height);
  job.width = static_cast<std::int32_t>(image.size.width);
  job.resized_height = static_cast<std::int32_t>(plan.resized.height);
  job.resized_width = static_cast<std::int32_t>(plan.resized.width);
  job.x = send_axis(image.size.width, plan.resized.width);
  job.y = send_axis(image.size.height, plan.resized.height);
  job.scratch = reinterpret_cast<std::uint8_t*>(device_.resized);
  FACET_CUDA(kernels::image_patches(job, patches_, out, {stream_, true}));
}

namespace {

void write_values(std::span<const float> values, kernels::DType type, std::byte* to) {
  switch (type) {
    case kernels::DType::kFp32:
      std::memcpy(to, values.data(), values.size_bytes());
      return;
    case kernels::DType::kBf16:
      std::ranges::copy(values, reinterpret_cast<c10::BFloat16*>(to));
      return;
    case kernels::DType::kFp16:
      std::ranges::copy(values, reinterpret_cast<c10::Half*>(to));
      return;
  }
}

}  // namespace

// Through the slot's memory, a part at a time.
void ImageUpload::add_on_host(const RgbView& image, const QwenImagePlan& plan, void* out) {
  std::vector<float> patches(static_cast<std::size_t>(plan.num_floats()));
  write_qwen_patches(image, settings_, plan, patches);
  const std::size_t value_size = kernels::size_of(patches_.dtype);
  const std::size_t part = kBytes / value_size;
  std::byte* const host = slots_[slot_].pixels.data();
  for (std::size_t first = 0; first < patches.size(); first += part) {
    const std::size_t count = std::min(part, patches.size() - first);
    FACET_CUDA(cudaStreamSynchronize(stream_));  // what lies there was copied
    write_values({patches.data() + first, count}, patches_.dtype, host);
    FACET_CUDA(cudaMemcpyAsync(static_cast<std::byte*>(out) + first * value_size, host,
                               count * value_size, cudaMemcpyHostToDevice, stream_));
  }
  used_ = kBytes;  // the pass has no room for another one
}

}  // namespace facet
