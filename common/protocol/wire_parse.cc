#include "common/protocol/wire_parse.h"

#include <string>

#include "common/protocol/limits.h"
#include "common/protocol/text_check.h"

namespace facet::wire {
namespace {

// First pass: walks the bytes without building anything and stops at the first broken limit.
class Gauge : public msgpack::null_visitor {
 public:
  explicit Gauge(std::size_t max_items) : max_items_(max_items) {}

  bool visit_nil() { return count(); }
  bool visit_boolean(bool) { return count(); }
  bool visit_positive_integer(std::uint64_t) { return count(); }
  bool visit_negative_integer(std::int64_t) { return count(); }
  bool visit_float32(float) { return count(); }
  bool visit_float64(double) { return count(); }
  bool visit_str(const char*, std::uint32_t) { return count(); }
  bool visit_bin(const char*, std::uint32_t) { return count(); }
  bool visit_ext(const char*, std::uint32_t) { return refuse("extension types are not used"); }
  bool start_array(std::uint32_t items) {
    if (items > kMaxMsgpackArray) {
      return refuse("an array of " + std::to_string(items) + " exceeds " +
                    std::to_string(kMaxMsgpackArray));
    }
    return open();
  }
  bool start_map(std::uint32_t pairs) {
    if (pairs > kMaxMsgpackMap) {
      return refuse("a map of " + std::to_string(pairs) + " exceeds " +
                    std::to_string(kMaxMsgpackMap));
    }
    return open();
  }
  bool end_array() { return close(); }
  bool end_map() { return close(); }
  void parse_error(std::size_t, std::size_t) { malformed_ = true; }
  void insufficient_bytes(std::size_t, std::size_t) { malformed_ = true; }

  const std::string& problem() const { return problem_; }
  bool malformed() const { return malformed_; }

 private:
  bool count() {
    if (++items_ <= max_items_) return true;
    return refuse("more than " + std::to_string(max_items_) + " values");
  }
  bool open() {
    if (++depth_ <= kMaxMsgpackDepth) return count();
    return refuse("nested deeper than " + std::to_string(kMaxMsgpackDepth));
  }
  bool close() {
    --depth_;
    return true;
  }
  [[gnu::cold]] bool refuse(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }

  std::size_t max_items_;
  std::size_t items_ = 0;
  std::size_t depth_ = 0;
  std::string problem_;
  bool malformed_ = false;
};

bool reference_always(msgpack::type::object_type, std::size_t, void*) {
  return true;
}

}  // namespace

Result<msgpack::object_handle> parse(std::string_view bytes, const ParseLimits& limits) try {
  if (bytes.size() > limits.bytes) {
    return Error(Code::kTooLarge, "message: " + std::to_string(bytes.size()) +
                                      " bytes exceed the limit of " + std::to_string(limits.bytes));
  }
  Gauge gauge(limits.items);
  std::size_t used = 0;
  const bool whole = msgpack::parse(bytes.data(), bytes.size(), used, gauge);
  if (!gauge.problem().empty()) return Error(Code::kTooLarge, "message: " + gauge.problem());
  if (!whole || gauge.malformed()) {
    return Error(Code::kInvalidArgument, "message: not a whole msgpack value");
  }
  if (used != bytes.size()) {
    return Error(Code::kInvalidArgument, "message: " + std::to_string(bytes.size() - used) +
                                             " bytes after the msgpack value");
  }
  const msgpack::unpack_limit limit(kMaxMsgpackArray, kMaxMsgpackMap, limits.bytes, limits.bytes, 0,
                                    kMaxMsgpackDepth);
  std::size_t offset = 0;
  bool referenced = false;
  auto handle = msgpack::unpack(bytes.data(), bytes.size(), offset, referenced, reference_always,
                                nullptr, limit);
  if (handle.get().type != msgpack::type::MAP) {
    return Error(Code::kInvalidArgument, "message: must be a map");
  }
  return handle;
} catch (const std::exception& e) {  // msgpack-c reports broken input by throwing
  return Error(Code::kInvalidArgument,
               "message: not msgpack (" + bounded_text(e.what(), 100) + ")");
}

}  // namespace facet::wire
