#include "worker/image/qwen_patches.h"

#include <algorithm>
#include <array>

#include "common/base/check.h"
#include "worker/image/resize_bicubic.h"

namespace facet {
namespace {

using ChannelTable = std::array<float, 256>;

// One patch, its top left pixel at (y, x), to patch_floats places.
float* write_patch(const RgbView& image, const QwenImageSettings& settings,
                   const std::array<ChannelTable, 3>& tables, std::int64_t y, std::int64_t x,
                   float* out) {
  const std::int64_t side = settings.patch_size;
  for (std::size_t channel = 0; channel < 3; ++channel) {
    const ChannelTable& table = tables[channel];
    float* const frame = out;
    for (std::int64_t row = 0; row < side; ++row) {
      const std::uint8_t* pixel = image.row(y + row) + 3 * x + static_cast<std::int64_t>(channel);
      for (std::int64_t column = 0; column < side; ++column) *out++ = table[pixel[3 * column]];
    }
    for (std::int64_t time = 1; time < settings.temporal_patch_size; ++time) {
      out = std::copy_n(frame, side * side, out);
    }
  }
  return out;
}

}  // namespace

// Mean and deviation are float32 times a float32 factor, as in the fused step of the reference;
// then one subtraction and one division in float32.
std::array<ChannelTable, 3> normalized_values(const QwenImageSettings& settings) {
  const auto factor = static_cast<float>(1.0 / settings.rescale_factor);
  std::array<ChannelTable, 3> tables;
  for (std::size_t channel = 0; channel < 3; ++channel) {
    const float mean = static_cast<float>(settings.mean[channel]) * factor;
    const float std_dev = static_cast<float>(settings.std_dev[channel]) * factor;
    for (std::size_t value = 0; value < 256; ++value) {
      tables[channel][value] = (static_cast<float>(value) - mean) / std_dev;
    }
  }
  return tables;
}

Result<QwenImagePlan> plan_qwen_image(ImageSize size, const QwenImageSettings& settings) {
  const std::int64_t factor = settings.patch_size * settings.merge_size;
  QwenImagePlan plan;
  plan.resized = FACET_TRY(smart_resize(size, factor, settings.min_pixels, settings.max_pixels));
  plan.grid_h = plan.resized.height / settings.patch_size;
  plan.grid_w = plan.resized.width / settings.patch_size;
  plan.patch_floats = 3 * settings.temporal_patch_size * settings.patch_size * settings.patch_size;
  plan.num_tokens = plan.num_patches() / (settings.merge_size * settings.merge_size);
  return plan;
}

void write_qwen_patches(const RgbView& image, const QwenImageSettings& settings,
                        const QwenImagePlan& plan, std::span<float> out) {
  FACET_CHECK(static_cast<std::int64_t>(out.size()) == plan.num_floats());
  const auto tables = normalized_values(settings);
  const bool same_size = image.size == plan.resized;
  RgbImage resized;
  if (!same_size) resized = resize_bicubic(image, plan.resized);
  const RgbView pixels = same_size ? image : resized.view();
  const std::int64_t side = settings.patch_size;
  const std::int64_t merge = settings.merge_size;
  float* to = out.data();
  for (std::int64_t block_y = 0; block_y < plan.grid_h; block_y += merge) {
    for (std::int64_t block_x = 0; block_x < plan.grid_w; block_x += merge) {
      for (std::int64_t y = block_y; y < block_y + merge; ++y) {
        for (std::int64_t x = block_x; x < block_x + merge; ++x) {
          to = write_patch(pixels, settings, tables, y * side, x * side, to);
        }
      }
    }
  }
}

}  // namespace facet
