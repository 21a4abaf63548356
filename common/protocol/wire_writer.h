// MapWriter: a msgpack map, key by key, into a string.
//
// Not inline: a message is mostly written after a sleep, when each line of code comes from memory,
// and a packer inlined at every key is ten times as much of it.
#pragma once

#include <bit>
#include <cstdint>
#include <msgpack.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/request_id.h"
#include "common/protocol/messages.h"

namespace facet::wire {

struct StringSink {  // what msgpack::packer writes to
  std::string& bytes;
  void write(const char* data, std::size_t size);
};
inline constexpr std::size_t kUsualBytes = 1000;  // most messages need no second allocation

using Packer = msgpack::packer<StringSink>;

// Each call writes one value under its key; the number of keys is stated first.
class MapWriter {
 public:
  MapWriter(Packer& pack, std::uint32_t keys);

  void uint(std::string_view key, std::uint64_t value);
  void number(std::string_view key, double value);
  void boolean(std::string_view key, bool value);
  void text(std::string_view key, std::string_view value);
  void bytes(std::string_view key, std::string_view value);
  void id(const RequestId& id);
  void ints(std::string_view key, const std::vector<std::int32_t>& items);
  void texts(std::string_view key, const std::vector<std::string>& items);
  // Eight bytes each, little-endian: int32 token, float32 logprob.
  void logprobs(std::string_view key, const std::vector<TokenLogprob>& values);
  // A value that is msgpack already.
  void encoded(std::string_view key, std::string_view value);
  // The caller writes `items` values.
  void array(std::string_view key, std::size_t items);
  // The caller writes `keys` of the map in it.
  MapWriter map(std::string_view key, std::uint32_t keys);
  MapWriter item(std::uint32_t keys) { return {pack_, keys}; }  // of the array begun last

 private:
  void key(std::string_view name);

  Packer& pack_;
};

}  // namespace facet::wire
