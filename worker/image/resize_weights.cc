#include "worker/image/resize_weights.h"

#include <algorithm>
#include <cmath>

#include "common/base/check.h"

namespace facet {
namespace {

constexpr double kCubicA = -0.5;        // Keys, as in Pillow
constexpr double kSupport = 2.0;        // half of the filter's width, in input pixels
constexpr unsigned kMaxPrecision = 22;  // 32 bits less 8 of a pixel and 2 of spare

double cubic(double x) {
  constexpr double a = kCubicA;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2.0) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0.0;
}

// Bits such that the largest weight still fits an int16.
unsigned choose_precision(double largest_weight) {
  unsigned precision = 0;
  while (precision < kMaxPrecision &&
         static_cast<int>(0.5 + largest_weight * (1 << (precision + 1))) < (1 << 15)) {
    ++precision;
  }
  return precision;
}

std::int16_t to_fixed(double weight, unsigned precision) {
  const double scaled = weight * (1 << precision);
  return static_cast<std::int16_t>(static_cast<int>(scaled < 0 ? scaled - 0.5 : scaled + 0.5));
}

}  // namespace

ResizeWeights bicubic_weights(std::int64_t input_size, std::int64_t output_size) {
  FACET_CHECK(input_size >= 1 && output_size >= 1);
  const double scale = static_cast<double>(input_size) / static_cast<double>(output_size);
  const double support = scale >= 1.0 ? kSupport * scale : kSupport;
  const double inverse_scale = scale >= 1.0 ? 1.0 / scale : 1.0;
  ResizeWeights out;
  const std::int64_t max_taps = static_cast<std::int64_t>(std::ceil(support)) * 2 + 1;
  out.num_taps = (max_taps + 3) / 4 * 4;
  std::vector<double> exact(static_cast<std::size_t>(output_size * out.num_taps), 0.0);
  double largest = 0.0;
  for (std::int64_t i = 0; i < output_size; ++i) {
    const double center = scale * (static_cast<double>(i) + 0.5);
    const auto begin = std::max<std::int64_t>(static_cast<std::int64_t>(center - support + 0.5), 0);
    const auto end = std::min(static_cast<std::int64_t>(center + support + 0.5), input_size);
    const auto count = std::clamp<std::int64_t>(end - begin, 0, max_taps);
    double* weights = exact.data() + i * out.num_taps;
    double total = 0.0;
    for (std::int64_t k = 0; k < count; ++k) {
      weights[k] = cubic((static_cast<double>(k + begin) - center + 0.5) * inverse_scale);
      total += weights[k];
    }
    for (std::int64_t k = 0; k < count && total != 0.0; ++k) {
      weights[k] /= total;
      largest = std::max(largest, weights[k]);
    }
    out.begin.push_back(static_cast<std::int32_t>(begin));
    out.count.push_back(static_cast<std::int32_t>(count));
  }
  out.precision = choose_precision(largest);
  out.weights.reserve(exact.size());
  for (const double weight : exact) out.weights.push_back(to_fixed(weight, out.precision));
  return out;
}

}  // namespace facet
