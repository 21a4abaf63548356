// facet_image_patches MODEL_DIR: stdin is "height width\n" and the bytes of an RGB8 image, again
// and again; stdout gets "grid_h grid_w count\n" and as many float32 values, or "error MESSAGE\n".
// For comparing with references.
#include <cstdint>
#include <cstdio>
#include <iostream>

#include "worker/image/preprocessor_config.h"
#include "worker/image/qwen_patches.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const auto settings = facet::load_qwen_image_settings(argv[1]);
  if (!settings) {
    std::cerr << settings.error().message << "\n";
    return 1;
  }
  std::int64_t height = 0, width = 0;
  while (std::cin >> height >> width) {
    std::cin.get();
    facet::RgbImage image({height, width});
    std::cin.read(reinterpret_cast<char*>(image.pixels.data()),
                  static_cast<std::streamsize>(image.pixels.size()));
    const auto plan = facet::plan_qwen_image(image.size, *settings);
    if (!plan) {
      std::printf("error %s\n", plan.error().message.c_str());
      std::fflush(stdout);
      continue;
    }
    std::vector<float> values(static_cast<std::size_t>(plan->num_floats()));
    facet::write_qwen_patches(image.view(), *settings, *plan, values);
    std::printf("%lld %lld %zu\n", static_cast<long long>(plan->grid_h),
                static_cast<long long>(plan->grid_w), values.size());
    std::fwrite(values.data(), sizeof(float), values.size(), stdout);
    std::fflush(stdout);
  }
  return 0;
}
