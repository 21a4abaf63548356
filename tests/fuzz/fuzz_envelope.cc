// The bounded parsing of msgpack in front of every message: what passes keeps all limits, whatever
// walks it afterwards.
#include "common/base/check.h"
#include "common/protocol/envelope.h"
#include "common/protocol/limits.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/unit/protocol/samples.h"

namespace facet::fuzz {
namespace {

constexpr std::string_view kPlaces[] = {"message", "v:", "type:"};
constexpr wire::ParseLimits kLimits{1 << 14, 256};

struct Walk {
  std::string_view bytes;
  std::size_t items = 0;

  bool holds(const char* data, std::size_t size) const {
    return size == 0 || (data >= bytes.data() && data + size <= bytes.data() + bytes.size());
  }

  void visit(const msgpack::object& object, std::size_t depth) {
    FACET_CHECK(depth <= kMaxMsgpackDepth);
    FACET_CHECK(++items <= kLimits.items);
    switch (object.type) {
      case msgpack::type::STR:
        FACET_CHECK_MSG(holds(object.via.str.ptr, object.via.str.size), "text outside the frame");
        break;
      case msgpack::type::BIN:
        FACET_CHECK_MSG(holds(object.via.bin.ptr, object.via.bin.size), "bytes outside the frame");
        break;
      case msgpack::type::ARRAY:
        FACET_CHECK(object.via.array.size <= kMaxMsgpackArray);
        for (std::uint32_t i = 0; i < object.via.array.size; ++i) {
          visit(object.via.array.ptr[i], depth + 1);
        }
        break;
      case msgpack::type::MAP:
        FACET_CHECK(object.via.map.size <= kMaxMsgpackMap);
        for (std::uint32_t i = 0; i < object.via.map.size; ++i) {
          visit(object.via.map.ptr[i].key, depth + 1);
          visit(object.via.map.ptr[i].val, depth + 1);
        }
        break;
      default:
        FACET_CHECK_MSG(object.type != msgpack::type::EXT, "an extension passed");
    }
  }
};

// The same value, written anew, is the same value.
void check_rewritten(const msgpack::object& object) {
  std::string first;
  wire::StringSink sink{first};
  wire::Packer(sink).pack(object);
  const auto again = wire::parse(first, {std::size_t{1} << 20, kLimits.items});
  FACET_CHECK_MSG(again, "what was accepted is refused when it is written anew");
  std::string second;
  wire::StringSink second_sink{second};
  wire::Packer(second_sink).pack(again->get());
  FACET_CHECK(second == first);
}

}  // namespace

std::vector<std::string> seeds() {
  return {encode_message(samples::generate()), encode_message(StatusQuery{}),
          encode_message(samples::step()), encode_message(PutChunk{samples::id(), 1, 100, 0})};
}

void run_one(std::string_view input) {
  const auto handle = wire::parse(input, kLimits);
  if (!handle) return check_refusal(handle.error(), kMaxErrorBytes, kPlaces);
  Walk walk{input};
  walk.visit(handle->get(), 0);
  check_rewritten(handle->get());
  std::optional<Error> error;
  wire::MapReader map(handle->get(), {}, error);
  const std::string_view type = wire::read_envelope(map);
  if (error) {
    FACET_CHECK_MSG(type.empty(), "a type after an error");
    return check_refusal(*error, kMaxErrorBytes, kPlaces);
  }
  FACET_CHECK(walk.holds(type.data(), type.size()) && type.size() <= kMaxRoleBytes);
  std::uint32_t version = 0;
  map.uint("v", version, wire::Need::kRequired);
  FACET_CHECK(!error && version == kProtocolVersion);
}

}  // namespace facet::fuzz
