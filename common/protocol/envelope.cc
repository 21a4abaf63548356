#include "common/protocol/envelope.h"

#include <array>

#include "common/protocol/codec.h"
#include "common/protocol/text_check.h"

namespace facet {
namespace wire {

std::string_view read_envelope(MapReader& map) {
  std::uint64_t version = 0;
  map.uint("v", version, Need::kRequired);
  if (!map.failed() && version != kProtocolVersion) {
    map.fail(Code::kUnsupported, "v",
             "version " + std::to_string(version) + " is not spoken here, " +
                 std::to_string(kProtocolVersion) + " is");
  }
  std::string_view type;
  map.name("type", type, Need::kRequired);
  return map.failed() ? std::string_view() : type;
}

void refuse_type(MapReader& map, std::string_view type) {
  map.fail(Code::kUnsupported, "type", "unknown message type " + printable_quote(type));
}

Error as_corrupt(const Error& error) {
  return Error(Code::kCorrupt, error.message);
}

}  // namespace wire

namespace {

constexpr std::array<std::string_view, 5> kFinishNames = {"", "stop", "length", "cancelled",
                                                          "error"};

}  // namespace

std::string_view finish_reason_name(FinishReason reason) {
  return kFinishNames.at(static_cast<std::size_t>(reason));
}

std::optional<Code> code_from_name(std::string_view name) {
  for (std::uint16_t number = 1; number <= static_cast<std::uint16_t>(Code::kUnsupported);
       ++number) {
    if (code_name(static_cast<Code>(number)) == name) return static_cast<Code>(number);
  }
  return std::nullopt;
}

}  // namespace facet
