// RequestId: 128 random bits chosen by the client; idempotency key and capability at once.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace facet {

struct RequestId {
  std::array<std::uint8_t, 16> bytes{};

  auto operator<=>(const RequestId&) const = default;
  bool is_zero() const { return *this == RequestId{}; }
  std::string hex() const;                                      // 32 lower-case digits
  static std::optional<RequestId> from_hex(std::string_view);   // exactly 32 digits
  static std::optional<RequestId> from_bytes(std::string_view); // exactly 16 bytes
  static RequestId random();                                    // getrandom(2)
};

}  // namespace facet

template <>
struct std::hash<facet::RequestId> {
  // The id is random already; a client that picks colliding ids only slows its own look-ups.
  std::size_t operator()(const facet::RequestId& id) const noexcept {
    std::size_t first = 0;
    std::memcpy(&first, id.bytes.data(), sizeof first);
    return first;
  }
};
