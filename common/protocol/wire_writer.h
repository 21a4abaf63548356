// MapWriter: a msgpack map, key by key, into a string.
#pragma once

#include <bit>
#include <cstdint>
#include <msgpack.hpp>
#include <string>
#include <string_view>

#include "common/base/request_id.h"
#include "common/protocol/messages.h"

namespace facet::wire {

struct StringSink {  // what msgpack::packer writes to
  std::string bytes;
  void write(const char* data, std::size_t size) { bytes.append(data, size); }
};

using Packer = msgpack::packer<StringSink>;

inline void put_text(Packer& pack, std::string_view text) {
  pack.pack_str(static_cast<std::uint32_t>(text.size()));
  pack.pack_str_body(text.data(), static_cast<std::uint32_t>(text.size()));
}

inline void put_bytes(Packer& pack, const void* data, std::size_t size) {
  pack.pack_bin(static_cast<std::uint32_t>(size));
  pack.pack_bin_body(static_cast<const char*>(data), static_cast<std::uint32_t>(size));
}

// Each call writes one value under its key; the number of keys is stated first.
class MapWriter {
 public:
  MapWriter(Packer& pack, std::uint32_t keys) : pack_(pack) { pack_.pack_map(keys); }

  void uint(std::string_view key, std::uint64_t value) { at(key).pack_uint64(value); }
  void number(std::string_view key, double value) { at(key).pack_double(value); }
  void boolean(std::string_view key, bool value) {
    value ? at(key).pack_true() : at(key).pack_false();
  }
  void text(std::string_view key, std::string_view value) { put_text(at(key), value); }
  void id(const RequestId& id) { put_bytes(at("id"), id.bytes.data(), id.bytes.size()); }
  template <class Items>
  void ints(std::string_view key, const Items& items) {
    at(key).pack_array(static_cast<std::uint32_t>(items.size()));
    for (auto item : items) pack_.pack_int64(item);
  }
  template <class Items>
  void texts(std::string_view key, const Items& items) {
    at(key).pack_array(static_cast<std::uint32_t>(items.size()));
    for (const auto& item : items) put_text(pack_, item);
  }
  void bytes(std::string_view key, std::string_view value) {
    put_bytes(at(key), value.data(), value.size());
  }
  // Eight bytes each, little-endian: int32 token, float32 logprob.
  void logprobs(std::string_view key, const std::vector<TokenLogprob>& values) {
    static_assert(sizeof(TokenLogprob) == 8 && std::endian::native == std::endian::little);
    put_bytes(at(key), values.data(), values.size() * sizeof(TokenLogprob));
  }
  Packer& at(std::string_view key) {  // the caller packs the value
    put_text(pack_, key);
    return pack_;
  }
  Packer& packer() { return pack_; }

 private:
  Packer& pack_;
};

}  // namespace facet::wire
