// Element types of the host kernels. bf16 lives as its bits; arithmetic is in fp32 and each result
// is rounded to nearest even, as libtorch does.
#pragma once

#include <cstdint>
#include <cstring>

namespace facet {

struct Bf16 {
  std::uint16_t bits = 0;
};

}  // namespace facet
