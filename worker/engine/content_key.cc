#include "worker/engine/content_key.h"

#include <xxhash.h>

#include <random>

namespace facet {
namespace {

// Drawn once, so that nobody can prepare different content with equal keys.
std::uint64_t process_seed() {
  static const std::uint64_t kSeed = [] {
    std::random_device device;
    return std::uint64_t{device()} << 32 | device();
  }();
  return kSeed;
}

}  // namespace

ContentKey content_key(std::span<const std::byte> bytes) {
  const XXH128_hash_t hash = XXH3_128bits_withSeed(bytes.data(), bytes.size(), process_seed());
  return {hash.high64, hash.low64};
}

}  // namespace facet
