// Names of content for caches: equal keys, equal content.
// 128 bits of XXH3 over everything that the content depends on. Within one process only: model,
// dtype and the processor's settings are the same for all of it and not part of a key.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace facet {

struct ContentKey {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  // Of content that cannot be told from other content: never cached.
  bool is_none() const { return high == 0 && low == 0; }
  bool operator==(const ContentKey&) const = default;
};

ContentKey content_key(std::span<const std::byte> bytes);

}  // namespace facet

template <>
struct std::hash<facet::ContentKey> {
  std::size_t operator()(const facet::ContentKey& key) const noexcept { return key.low; }
};
