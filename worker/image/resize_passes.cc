#include "worker/image/resize_passes.h"

#include <algorithm>
#include <cstring>

// Compiled twice on x86-64: for any CPU, and for those with AVX2. Integers only, so both agree.
#define FACET_INLINE inline __attribute__((always_inline))

namespace facet {
namespace {

using Bytes4 = std::uint8_t __attribute__((vector_size(4)));
using Bytes8 = std::uint8_t __attribute__((vector_size(8)));
using Ints4 = std::int32_t __attribute__((vector_size(16)));
using Ints8 = std::int32_t __attribute__((vector_size(32)));

FACET_INLINE std::uint8_t to_byte(std::int32_t sum, unsigned precision) {
  return static_cast<std::uint8_t>(std::clamp(sum >> precision, 0, 255));
}

// One pixel at a time, its three channels (and a byte that is not used) in one vector.
FACET_INLINE void row_pass(const std::uint8_t* input, const ResizeWeights& weights,
                           std::uint8_t* output) {
  const std::int32_t half = 1 << (weights.precision - 1);
  const std::size_t width = weights.begin.size();
  const std::int16_t* weight = weights.weights.data();
  for (std::size_t x = 0; x < width; ++x, weight += weights.num_taps) {
    Ints4 sum = {half, half, half, half};
    const std::uint8_t* pixel = input + 3 * static_cast<std::size_t>(weights.begin[x]);
    for (std::int32_t k = 0; k < weights.count[x]; ++k, pixel += 3) {
      Bytes4 bytes;
      std::memcpy(&bytes, pixel, sizeof bytes);
      sum += __builtin_convertvector(bytes, Ints4) * static_cast<std::int32_t>(weight[k]);
    }
    sum >>= static_cast<std::int32_t>(weights.precision);
    sum = sum < 0 ? Ints4{} : sum;
    sum = sum > 255 ? Ints4{} + 255 : sum;
    const Bytes4 bytes = __builtin_convertvector(sum, Bytes4);
    std::memcpy(output + 3 * x, &bytes, sizeof bytes);
  }
}

constexpr std::size_t kVectors = 4;                 // accumulators that stay in registers
constexpr std::size_t kBlockBytes = 8 * kVectors;  // of a row at a time

FACET_INLINE void column_pass(const std::uint8_t* input, std::size_t stride_bytes,
                              std::size_t row_bytes, const std::int16_t* weight, std::int32_t count,
                              unsigned precision, std::uint8_t* output) {
  const std::int32_t half = 1 << (precision - 1);
  const Ints8 start = {half, half, half, half, half, half, half, half};
  std::size_t at = 0;
  for (; at + kBlockBytes <= row_bytes; at += kBlockBytes) {
    Ints8 sums[kVectors] = {start, start, start, start};
    const std::uint8_t* from = input + at;
    for (std::int32_t k = 0; k < count; ++k, from += stride_bytes) {
      for (std::size_t v = 0; v < kVectors; ++v) {
        Bytes8 bytes;
        std::memcpy(&bytes, from + 8 * v, sizeof bytes);
        sums[v] += __builtin_convertvector(bytes, Ints8) * static_cast<std::int32_t>(weight[k]);
      }
    }
    for (std::size_t v = 0; v < kVectors; ++v) {
      Ints8 sum = sums[v] >> static_cast<std::int32_t>(precision);
      sum = sum < 0 ? Ints8{} : sum;
      sum = sum > 255 ? Ints8{} + 255 : sum;
      const Bytes8 bytes = __builtin_convertvector(sum, Bytes8);
      std::memcpy(output + at + 8 * v, &bytes, sizeof bytes);
    }
  }
  for (; at < row_bytes; ++at) {
    std::int32_t sum = half;
    for (std::int32_t k = 0; k < count; ++k) {
      sum += weight[k] * input[static_cast<std::size_t>(k) * stride_bytes + at];
    }
    output[at] = to_byte(sum, precision);
  }
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void row_pass_avx2(const std::uint8_t* input,
                                                   const ResizeWeights& weights,
                                                   std::uint8_t* output) {
  row_pass(input, weights, output);
}

__attribute__((target("avx2"))) void column_pass_avx2(const std::uint8_t* input,
                                                      std::size_t stride_bytes,
                                                      std::size_t row_bytes,
                                                      const std::int16_t* weight,
                                                      std::int32_t count, unsigned precision,
                                                      std::uint8_t* output) {
  column_pass(input, stride_bytes, row_bytes, weight, count, precision, output);
}

bool has_avx2() {
  static const bool has = __builtin_cpu_supports("avx2");
  return has;
}
#endif

}  // namespace

void resize_row(const std::uint8_t* input, const ResizeWeights& weights, std::uint8_t* output) {
#if defined(__x86_64__)
  if (has_avx2()) return row_pass_avx2(input, weights, output);
#endif
  row_pass(input, weights, output);
}

void resize_column(const std::uint8_t* input, std::size_t stride_bytes, std::size_t row_bytes,
                   const ResizeWeights& weights, std::int64_t y, std::uint8_t* output) {
  const auto index = static_cast<std::size_t>(y);
  const std::uint8_t* first = input + static_cast<std::size_t>(weights.begin[index]) * stride_bytes;
  const std::int16_t* weight = weights.weights.data() + y * weights.num_taps;
#if defined(__x86_64__)
  if (has_avx2()) {
    return column_pass_avx2(first, stride_bytes, row_bytes, weight, weights.count[index],
                            weights.precision, output);
  }
#endif
  column_pass(first, stride_bytes, row_bytes, weight, weights.count[index], weights.precision,
              output);
}

}  // namespace facet
