// facet_resize_rgb: stdin is "in_height in_width out_height out_width\n" and the input's bytes,
// again and again; stdout gets each resized image's bytes. For comparing with references.
#include <cstdint>
#include <cstdio>
#include <iostream>

#include "worker/image/resize_bicubic.h"

int main() {
  std::int64_t in_height = 0, in_width = 0, out_height = 0, out_width = 0;
  while (std::cin >> in_height >> in_width >> out_height >> out_width) {
    std::cin.get();
    facet::RgbImage input({in_height, in_width});
    std::cin.read(reinterpret_cast<char*>(input.pixels.data()),
                  static_cast<std::streamsize>(input.pixels.size()));
    const facet::RgbImage output = facet::resize_bicubic(input.view(), {out_height, out_width});
    std::fwrite(output.pixels.data(), 1, output.pixels.size(), stdout);
    std::fflush(stdout);
  }
  return 0;
}
