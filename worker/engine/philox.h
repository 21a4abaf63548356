// Philox 4x32-10, a counter-based generator (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011): the number at a place is a function of key and counter alone, so a token is
// the same in any batch and on any attempt.
#pragma once

#include <array>
#include <cstdint>

namespace facet {

using PhiloxBlock = std::array<std::uint32_t, 4>;

PhiloxBlock philox(PhiloxBlock counter, std::uint64_t key);

// Uniform in [0, 1) with 53 bits, for the token at `index` of an answer.
double uniform_at(std::uint64_t seed, std::uint64_t index);

}  // namespace facet
