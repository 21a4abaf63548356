#include "worker/image/resize_passes.h"

#include <algorithm>

namespace facet {
namespace {

std::uint8_t to_byte(std::int32_t sum, unsigned precision) {
  return static_cast<std::uint8_t>(std::clamp(sum >> precision, 0, 255));
}

void row_pass(const std::uint8_t* input, const ResizeWeights& weights, std::uint8_t* output) {
  const std::int32_t half = 1 << (weights.precision - 1);
  const std::int16_t* weight = weights.weights.data();
  for (std::size_t x = 0; x < weights.begin.size(); ++x, weight += weights.num_taps, output += 3) {
    std::int32_t red = half, green = half, blue = half;
    const std::uint8_t* pixel = input + 3 * static_cast<std::size_t>(weights.begin[x]);
    for (std::int32_t k = 0; k < weights.count[x]; ++k, pixel += 3) {
      red += weight[k] * pixel[0];
      green += weight[k] * pixel[1];
      blue += weight[k] * pixel[2];
    }
    output[0] = to_byte(red, weights.precision);
    output[1] = to_byte(green, weights.precision);
    output[2] = to_byte(blue, weights.precision);
  }
}

void column_pass(const std::uint8_t* input, std::size_t stride_bytes, std::size_t row_bytes,
                 const ResizeWeights& weights, std::int64_t y, std::uint8_t* output) {
  const auto index = static_cast<std::size_t>(y);
  const std::int16_t* weight = weights.weights.data() + y * weights.num_taps;
  input += static_cast<std::size_t>(weights.begin[index]) * stride_bytes;
  for (std::size_t at = 0; at < row_bytes; ++at) {
    std::int32_t sum = 1 << (weights.precision - 1);
    const std::uint8_t* from = input + at;
    for (std::int32_t k = 0; k < weights.count[index]; ++k, from += stride_bytes) {
      sum += weight[k] * *from;
    }
    output[at] = to_byte(sum, weights.precision);
  }
}

}  // namespace

const ResizePasses& plain_resize_passes() {
  static const ResizePasses passes{row_pass, column_pass};
  return passes;
}

const ResizePasses& resize_passes() {
  const ResizePasses* fast = avx2_resize_passes();
  return fast != nullptr ? *fast : plain_resize_passes();
}

}  // namespace facet
