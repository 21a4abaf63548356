// Angles of rotary embeddings as the reference rounds them: fp32 in every dtype, by libtorch's own
// pow, cos and sin. Throw what libtorch throws.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace facet {

// 1 / theta^(2 i / dim), i = 0 .. dim / 2 - 1.
std::vector<float> inverse_frequencies(double theta, std::int64_t dim);

// Row p of cos and sin [positions, dim / 2]: pair i turned by p times its frequency.
void fill_angles(double theta, std::int64_t dim, std::span<float> cos, std::span<float> sin);

}  // namespace facet
