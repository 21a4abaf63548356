#include "worker/image/smart_resize.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "common/base/check.h"

namespace facet {
namespace {

constexpr double kMaxAspectRatio = 200;
constexpr std::int64_t kMaxSide = 1 << 20;  // keeps every product below exact in a double

// Python's round(): half to even, the default rounding mode of the processor.
std::int64_t round_half_even(double value) {
  return static_cast<std::int64_t>(std::nearbyint(value));
}

}  // namespace

Result<ImageSize> smart_resize(ImageSize size, std::int64_t factor, std::int64_t min_pixels,
                               std::int64_t max_pixels) {
  FACET_CHECK(factor > 0 && min_pixels > 0 && max_pixels >= min_pixels);
  const std::string text = std::to_string(size.height) + "x" + std::to_string(size.width);
  if (size.height < 1 || size.width < 1 || size.height > kMaxSide || size.width > kMaxSide) {
    return Error(Code::kInvalidArgument, "image of " + text + " pixels; a side is 1 to " +
                                             std::to_string(kMaxSide));
  }
  const auto height = static_cast<double>(size.height);
  const auto width = static_cast<double>(size.width);
  const double aspect_ratio = std::max(height, width) / std::min(height, width);
  if (aspect_ratio > kMaxAspectRatio) {
    return Error(Code::kInvalidArgument, "image of " + text + " pixels has an aspect ratio of " +
                                             std::to_string(aspect_ratio) + "; at most 200");
  }
  const auto step = static_cast<double>(factor);
  ImageSize out{round_half_even(height / step) * factor, round_half_even(width / step) * factor};
  const double area = height * width;
  if (out.height * out.width > max_pixels) {
    const double beta = std::sqrt(area / static_cast<double>(max_pixels));
    const auto shrink = [&](double side) {
      return std::max(factor, static_cast<std::int64_t>(std::floor(side / beta / step)) * factor);
    };
    out = {shrink(height), shrink(width)};
  } else if (out.height * out.width < min_pixels) {
    const double beta = std::sqrt(static_cast<double>(min_pixels) / area);
    const auto grow = [&](double side) {
      return static_cast<std::int64_t>(std::ceil(side * beta / step)) * factor;
    };
    out = {grow(height), grow(width)};
  }
  return out;
}

}  // namespace facet
