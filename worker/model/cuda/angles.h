// Angles of rotary embeddings as the reference rounds them, by libtorch on the host.
#pragma once

#include <cstdint>
#include <vector>

namespace facet {

// 1 / theta^(2 i / dim), i = 0 .. dim / 2 - 1.
std::vector<float> inverse_frequencies(double theta, std::int64_t dim);

struct HostAngles {
  std::vector<float> cos, sin;  // [positions, dim / 2]
};
HostAngles host_angles(double theta, std::int64_t dim, std::int64_t positions);

}  // namespace facet
