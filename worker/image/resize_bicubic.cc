#include "worker/image/resize_bicubic.h"

#include <cstring>
#include <vector>

#include "common/base/check.h"
#include "worker/image/resize_passes.h"

namespace facet {
namespace {

RgbImage copy_of(const RgbView& input) {
  RgbImage out(input.size);
  for (std::int64_t y = 0; y < input.size.height; ++y) {
    std::memcpy(out.row(y), input.row(y), out.stride_bytes());
  }
  return out;
}

RgbImage resize_width(const RgbView& input, std::int64_t width, const ResizePasses& passes) {
  const ResizeWeights weights = bicubic_weights(input.size.width, width);
  RgbImage out({input.size.height, width});
  const auto input_bytes = static_cast<std::size_t>(input.size.width) * 3;
  std::vector<std::uint8_t> from(input_bytes + kRowPaddingBytes);
  std::vector<std::uint8_t> to(out.stride_bytes() + kRowPaddingBytes);
  for (std::int64_t y = 0; y < input.size.height; ++y) {
    std::memcpy(from.data(), input.row(y), input_bytes);
    passes.row(from.data(), weights, to.data());
    std::memcpy(out.row(y), to.data(), out.stride_bytes());
  }
  return out;
}

RgbImage resize_height(const RgbView& input, std::int64_t height, const ResizePasses& passes) {
  const ResizeWeights weights = bicubic_weights(input.size.height, height);
  RgbImage out({height, input.size.width});
  for (std::int64_t y = 0; y < height; ++y) {
    passes.column(input.data, input.stride_bytes, out.stride_bytes(), weights, y, out.row(y));
  }
  return out;
}

}  // namespace

RgbImage resize_bicubic(const RgbView& input, ImageSize output_size) {
  return resize_bicubic_with(resize_passes(), input, output_size);
}

RgbImage resize_bicubic_with(const ResizePasses& passes, const RgbView& input,
                             ImageSize output_size) {
  FACET_CHECK(input.size.height >= 1 && input.size.width >= 1 && output_size.height >= 1 &&
              output_size.width >= 1);
  const bool same_width = input.size.width == output_size.width;
  const bool same_height = input.size.height == output_size.height;
  if (same_width && same_height) return copy_of(input);
  if (same_height) return resize_width(input, output_size.width, passes);
  if (same_width) return resize_height(input, output_size.height, passes);
  const RgbImage narrowed = resize_width(input, output_size.width, passes);
  return resize_height(narrowed.view(), output_size.height, passes);
}

}  // namespace facet
