#include "worker/engine/philox.h"

namespace facet {

PhiloxBlock philox(PhiloxBlock counter, std::uint64_t key) {
  constexpr std::uint64_t kMul0 = 0xD2511F53;
  constexpr std::uint64_t kMul1 = 0xCD9E8D57;
  auto key0 = static_cast<std::uint32_t>(key);
  auto key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = kMul0 * counter[0];
    const std::uint64_t product1 = kMul1 * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key0,
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key1,
               static_cast<std::uint32_t>(product0)};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

double uniform_at(std::uint64_t seed, std::uint64_t index) {
  const PhiloxBlock block = philox(
      {static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), 0, 0}, seed);
  const std::uint64_t bits = static_cast<std::uint64_t>(block[0]) << 32 | block[1];
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

}  // namespace facet
