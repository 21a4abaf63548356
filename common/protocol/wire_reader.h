// MapReader takes typed and bounded values out of a msgpack map. The first error sticks and later
// reads do nothing, so that a decoder reads all its keys and looks at the error once.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <msgpack.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/request_id.h"
#include "common/base/result.h"
#include "common/protocol/messages.h"

namespace facet::wire {

// Where in the message an error lies: a chain on the stack, rendered only when needed.
struct Path {
  const Path* parent = nullptr;
  std::string_view key;
  std::int64_t index = -1;
  std::string render() const;  // "messages[2].content"
};

enum class Need { kRequired, kOptional };  // an optional key that is absent leaves its default

class MapReader {
 public:
  // `error` is shared by all readers of a message.
  MapReader(const msgpack::object& object, Path path, std::optional<Error>& error);

  // Anything but these names is refused by name.
  void only(std::initializer_list<std::string_view> names);

  template <class T>
  void uint(std::string_view key, T& out, Need need,
            std::uint64_t max = std::numeric_limits<T>::max(), std::uint64_t min = 0) {
    std::uint64_t value = out;
    read_uint(key, value, need, min, max);
    out = static_cast<T>(value);
  }
  void number(std::string_view key, double& out, Need need, double min, double max);
  void boolean(std::string_view key, bool& out, Need need);
  void text(std::string_view key, std::string& out, Need need, std::size_t max_bytes);
  void id(std::string_view key, RequestId& out);
  void bytes(std::string_view key, std::string_view& out, std::size_t exact_bytes);
  void int32s(std::string_view key, std::vector<std::int32_t>& out, std::size_t max_items);
  // Pairs of token and logprob, as MapWriter::logprobs() writes them. Absent: none.
  void logprobs(std::string_view key, std::vector<TokenLogprob>& out);
  void texts(std::string_view key, std::vector<std::string>& out, Need need, std::size_t max_items,
             std::size_t max_bytes);

  // A name out of a fixed set. Absent: `out` stays empty.
  void name(std::string_view key, std::string_view& out, Need need);

  const msgpack::object* map(std::string_view key, Need need);
  const msgpack::object_array* array(std::string_view key, Need need, std::size_t max_items);
  const msgpack::object* any(std::string_view key, Need need);  // string or array or whatever

  [[gnu::cold]] void fail(Code code, std::string_view key, const std::string& what);
  bool failed() const { return error_.has_value(); }
  const Path& path() const { return path_; }
  std::optional<Error>& error() { return error_; }

 private:
  void read_uint(std::string_view key, std::uint64_t& out, Need need, std::uint64_t min,
                 std::uint64_t max);

  const msgpack::object_map* map_ = nullptr;  // null once something failed
  Path path_;                                 // its parent lives as long as this reader
  std::optional<Error>& error_;
};

// Checks one string value: type, length, UTF-8.
std::optional<std::string_view> read_text(const msgpack::object& object, const Path& path,
                                          std::size_t max_bytes, std::optional<Error>& error);

}  // namespace facet::wire
