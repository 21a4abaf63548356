#include "common/protocol/wire_writer.h"

namespace facet::wire {
namespace {

[[gnu::noinline]] void put_text(Packer& pack, std::string_view text) {
  pack.pack_str(static_cast<std::uint32_t>(text.size()));
  pack.pack_str_body(text.data(), static_cast<std::uint32_t>(text.size()));
}

[[gnu::noinline]] void put_bytes(Packer& pack, const void* data, std::size_t size) {
  pack.pack_bin(static_cast<std::uint32_t>(size));
  pack.pack_bin_body(static_cast<const char*>(data), static_cast<std::uint32_t>(size));
}

}  // namespace

void StringSink::write(const char* data, std::size_t size) {
  bytes.append(data, size);
}

MapWriter::MapWriter(Packer& pack, std::uint32_t keys) : pack_(pack) {
  pack_.pack_map(keys);
}

void MapWriter::key(std::string_view name) {
  put_text(pack_, name);
}

void MapWriter::uint(std::string_view name, std::uint64_t value) {
  key(name);
  pack_.pack_uint64(value);
}

void MapWriter::number(std::string_view name, double value) {
  key(name);
  pack_.pack_double(value);
}

void MapWriter::boolean(std::string_view name, bool value) {
  key(name);
  value ? pack_.pack_true() : pack_.pack_false();
}

void MapWriter::text(std::string_view name, std::string_view value) {
  key(name);
  put_text(pack_, value);
}

void MapWriter::bytes(std::string_view name, std::string_view value) {
  key(name);
  put_bytes(pack_, value.data(), value.size());
}

void MapWriter::id(const RequestId& id) {
  key("id");
  put_bytes(pack_, id.bytes.data(), id.bytes.size());
}

void MapWriter::ints(std::string_view name, const std::vector<std::int32_t>& items) {
  array(name, items.size());
  for (std::int32_t item : items) pack_.pack_int64(item);
}

void MapWriter::texts(std::string_view name, const std::vector<std::string>& items) {
  array(name, items.size());
  for (const std::string& item : items) put_text(pack_, item);
}

void MapWriter::logprobs(std::string_view name, const std::vector<TokenLogprob>& values) {
  static_assert(sizeof(TokenLogprob) == 8 && std::endian::native == std::endian::little);
  key(name);
  put_bytes(pack_, values.data(), values.size() * sizeof(TokenLogprob));
}

void MapWriter::encoded(std::string_view name, std::string_view value) {
  key(name);
  pack_.pack_bin_body(value.data(), static_cast<std::uint32_t>(value.size()));
}

void MapWriter::array(std::string_view name, std::size_t items) {
  key(name);
  pack_.pack_array(static_cast<std::uint32_t>(items));
}

MapWriter MapWriter::map(std::string_view name, std::uint32_t keys) {
  key(name);
  return {pack_, keys};
}

}  // namespace facet::wire
