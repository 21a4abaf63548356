// What every message has: `v` and `type`.
#pragma once

#include <string>
#include <string_view>

#include "common/protocol/messages.h"
#include "common/protocol/wire_parse.h"
#include "common/protocol/wire_reader.h"
#include "common/protocol/wire_writer.h"

namespace facet::wire {

// Checks the version and returns the type; empty after an error.
std::string_view read_envelope(MapReader& map);

void refuse_type(MapReader& map, std::string_view type);

// kCorrupt: what a broker or worker sent cannot be its own doing on purpose.
Error as_corrupt(const Error& error);

// `v`, `type` and `keys` more, which `fill` writes; appended to `bytes`.
template <class Fill>
void encode(std::string& bytes, std::string_view type, std::uint32_t keys, Fill fill) {
  StringSink sink{bytes};
  Packer pack(sink);
  MapWriter map(pack, keys + 2);
  map.uint("v", kProtocolVersion);
  map.text("type", type);
  fill(map);
}

template <class Fill>
std::string encode(std::string_view type, std::uint32_t keys, Fill fill) {
  std::string bytes;
  bytes.reserve(kUsualBytes);
  encode(bytes, type, keys, fill);
  return bytes;
}

}  // namespace facet::wire
