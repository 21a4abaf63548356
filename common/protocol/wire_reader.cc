#include "common/protocol/wire_reader.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "common/protocol/limits.h"
#include "common/protocol/text_check.h"

namespace facet::wire {
namespace {

constexpr std::string_view type_name(msgpack::type::object_type type) {
  switch (type) {
    case msgpack::type::NIL:
      return "nil";
    case msgpack::type::BOOLEAN:
      return "a boolean";
    case msgpack::type::POSITIVE_INTEGER:
      return "an integer";
    case msgpack::type::NEGATIVE_INTEGER:
      return "a negative integer";
    case msgpack::type::FLOAT32:
    case msgpack::type::FLOAT64:
      return "a float";
    case msgpack::type::STR:
      return "a string";
    case msgpack::type::BIN:
      return "binary";
    case msgpack::type::ARRAY:
      return "an array";
    case msgpack::type::MAP:
      return "a map";
    case msgpack::type::EXT:
      return "an extension";
  }
  return "unknown";
}

std::string_view text_of(const msgpack::object& object) {
  return {object.via.str.ptr, object.via.str.size};
}

}  // namespace

std::string Path::render() const {
  std::string text = parent != nullptr ? parent->render() : std::string();
  if (index >= 0) return text + "[" + std::to_string(index) + "]";
  if (!text.empty() && !key.empty()) text += ".";
  return text.append(key);
}

MapReader::MapReader(const msgpack::object& object, Path path, std::optional<Error>& error)
    : path_(path), error_(error) {
  if (object.type != msgpack::type::MAP) {
    fail(Code::kInvalidArgument, "", "must be a map, is " + std::string(type_name(object.type)));
    return;
  }
  map_ = &object.via.map;
  for (std::uint32_t i = 0; i < map_->size; ++i) {
    if (map_->ptr[i].key.type != msgpack::type::STR) {
      fail(Code::kInvalidArgument, "", "keys must be strings");
      return;
    }
    const std::string_view key = text_of(map_->ptr[i].key);
    for (std::uint32_t j = 0; j < i; ++j) {  // at most kMaxMsgpackMap keys
      if (text_of(map_->ptr[j].key) != key) continue;
      fail(Code::kInvalidArgument, "", printable_quote(key) + " is given twice");
      return;
    }
  }
}

void MapReader::fail(Code code, std::string_view key, const std::string& what) {
  map_ = nullptr;
  if (error_) return;
  const Path here{&path_, key};
  std::string where = key.empty() ? path_.render() : here.render();
  if (where.empty()) where = "message";
  error_.emplace(code, bounded_text(where + ": " + what, kMaxErrorBytes));
}

void MapReader::only(std::initializer_list<std::string_view> names) {
  for (std::uint32_t i = 0; map_ != nullptr && i < map_->size; ++i) {
    bool known = false;
    for (std::string_view name : names) known = known || name == text_of(map_->ptr[i].key);
    if (!known) {
      fail(Code::kInvalidArgument, "",
           "unknown name " + printable_quote(text_of(map_->ptr[i].key)));
    }
  }
}

const msgpack::object* MapReader::any(std::string_view key, Need need) {
  for (std::uint32_t i = 0; map_ != nullptr && i < map_->size; ++i) {
    if (text_of(map_->ptr[i].key) == key) return &map_->ptr[i].val;
  }
  if (map_ != nullptr && need == Need::kRequired) fail(Code::kInvalidArgument, key, "missing");
  return nullptr;
}

void MapReader::read_uint(std::string_view key, std::uint64_t& out, Need need, std::uint64_t min,
                          std::uint64_t max) {
  const auto* value = any(key, need);
  if (value == nullptr) return;
  const bool negative = value->type == msgpack::type::NEGATIVE_INTEGER;
  if (value->type != msgpack::type::POSITIVE_INTEGER && !negative) {
    fail(Code::kInvalidArgument, key,
         "must be an integer, is " + std::string(type_name(value->type)));
  } else if (negative || value->via.u64 < min || value->via.u64 > max) {
    fail(Code::kInvalidArgument, key,
         (negative ? std::to_string(value->via.i64) : std::to_string(value->via.u64)) +
             " is not between " + std::to_string(min) + " and " + std::to_string(max));
  } else {
    out = value->via.u64;
  }
}

void MapReader::number(std::string_view key, double& out, Need need, double min, double max) {
  const auto* value = any(key, need);
  if (value == nullptr) return;
  double number = 0.0;
  switch (value->type) {
    case msgpack::type::POSITIVE_INTEGER:
      number = static_cast<double>(value->via.u64);
      break;
    case msgpack::type::NEGATIVE_INTEGER:
      number = static_cast<double>(value->via.i64);
      break;
    case msgpack::type::FLOAT32:
    case msgpack::type::FLOAT64:
      number = value->via.f64;
      break;
    default:
      fail(Code::kInvalidArgument, key,
           "must be a number, is " + std::string(type_name(value->type)));
      return;
  }
  if (!std::isfinite(number) || number < min || number > max) {
    char text[96];
    std::snprintf(text, sizeof text, "%g is not between %g and %g", number, min, max);
    fail(Code::kInvalidArgument, key, text);
    return;
  }
  out = number == 0.0 ? 0.0 : number;  // -0 and 0 are the same request
}

void MapReader::boolean(std::string_view key, bool& out, Need need) {
  const auto* value = any(key, need);
  if (value == nullptr) return;
  if (value->type != msgpack::type::BOOLEAN) {
    fail(Code::kInvalidArgument, key,
         "must be a boolean, is " + std::string(type_name(value->type)));
    return;
  }
  out = value->via.boolean;
}

std::optional<std::string_view> read_text(const msgpack::object& object, const Path& path,
                                          std::size_t max_bytes, std::optional<Error>& error) {
  std::optional<Error> problem;
  if (object.type != msgpack::type::STR) {
    problem.emplace(Code::kInvalidArgument,
                    "must be a string, is " + std::string(type_name(object.type)));
  } else if (object.via.str.size > max_bytes) {
    problem.emplace(Code::kTooLarge, std::to_string(object.via.str.size) +
                                         " bytes exceed the limit of " + std::to_string(max_bytes));
  } else if (!is_utf8(text_of(object))) {
    problem.emplace(Code::kInvalidArgument, "is not valid UTF-8");
  } else {
    return text_of(object);
  }
  if (!error) {
    error.emplace(problem->code,
                  bounded_text(path.render() + ": " + problem->message, kMaxErrorBytes));
  }
  return std::nullopt;
}

void MapReader::text(std::string_view key, std::string& out, Need need, std::size_t max_bytes) {
  const auto* value = any(key, need);
  if (value == nullptr) return;
  const auto text = read_text(*value, Path{&path_, key}, max_bytes, error_);
  if (text) {
    out = *text;
  } else {
    map_ = nullptr;
  }
}

void MapReader::bytes(std::string_view key, std::string_view& out, std::size_t exact_bytes) {
  const auto* value = any(key, Need::kRequired);
  if (value == nullptr) return;
  if (value->type != msgpack::type::BIN || value->via.bin.size != exact_bytes) {
    fail(Code::kInvalidArgument, key,
         "must be binary of " + std::to_string(exact_bytes) + " bytes");
    return;
  }
  out = {value->via.bin.ptr, value->via.bin.size};
}

void MapReader::id(std::string_view key, RequestId& out) {
  std::string_view raw;
  bytes(key, raw, out.bytes.size());
  if (failed()) return;
  out = *RequestId::from_bytes(raw);
  if (out.is_zero()) fail(Code::kInvalidArgument, key, "is all zeros: choose it at random");
}

void MapReader::name(std::string_view key, std::string_view& out, Need need) {
  const auto* value = any(key, need);
  if (value == nullptr) return;
  const auto text = read_text(*value, Path{&path_, key}, kMaxRoleBytes, error_);
  if (text) {
    out = *text;
  } else {
    map_ = nullptr;
  }
}

const msgpack::object* MapReader::map(std::string_view key, Need need) {
  const auto* value = any(key, need);
  if (value != nullptr && value->type != msgpack::type::MAP) {
    fail(Code::kInvalidArgument, key, "must be a map, is " + std::string(type_name(value->type)));
    return nullptr;
  }
  return value;
}

const msgpack::object_array* MapReader::array(std::string_view key, Need need,
                                              std::size_t max_items) {
  const auto* value = any(key, need);
  if (value == nullptr) return nullptr;
  if (value->type != msgpack::type::ARRAY) {
    fail(Code::kInvalidArgument, key,
         "must be an array, is " + std::string(type_name(value->type)));
    return nullptr;
  }
  if (value->via.array.size > max_items) {
    fail(Code::kTooLarge, key,
         std::to_string(value->via.array.size) + " items exceed the limit of " +
             std::to_string(max_items));
    return nullptr;
  }
  return &value->via.array;
}

void MapReader::int32s(std::string_view key, std::vector<std::int32_t>& out,
                       std::size_t max_items) {
  const auto* items = array(key, Need::kRequired, max_items);
  if (items == nullptr) return;
  out.reserve(items->size);
  for (std::uint32_t i = 0; i < items->size; ++i) {
    const auto& item = items->ptr[i];
    const bool negative = item.type == msgpack::type::NEGATIVE_INTEGER;
    const bool fits = negative ? item.via.i64 >= std::numeric_limits<std::int32_t>::min()
                               : item.type == msgpack::type::POSITIVE_INTEGER &&
                                     item.via.u64 <= std::numeric_limits<std::int32_t>::max();
    if (!fits) {
      fail(Code::kInvalidArgument, key,
           "item " + std::to_string(i) + " is not an integer of 32 bits");
      return;
    }
    out.push_back(static_cast<std::int32_t>(item.via.i64));
  }
}

void MapReader::logprobs(std::string_view key, std::vector<TokenLogprob>& out) {
  static_assert(sizeof(TokenLogprob) == 8 && std::endian::native == std::endian::little);
  const auto* value = any(key, Need::kOptional);
  if (value == nullptr) return;
  if (value->type != msgpack::type::BIN || value->via.bin.size % sizeof(TokenLogprob) != 0) {
    fail(Code::kInvalidArgument, key, "must be binary, 8 bytes for each token");
    return;
  }
  out.resize(value->via.bin.size / sizeof(TokenLogprob));
  if (!out.empty()) std::memcpy(out.data(), value->via.bin.ptr, value->via.bin.size);
}

void MapReader::texts(std::string_view key, std::vector<std::string>& out, Need need,
                      std::size_t max_items, std::size_t max_bytes) {
  const auto* items = array(key, need, max_items);
  if (items == nullptr) return;
  const Path here{&path_, key};
  out.reserve(items->size);
  for (std::uint32_t i = 0; i < items->size; ++i) {
    const auto text = read_text(items->ptr[i], Path{&here, "", i}, max_bytes, error_);
    if (!text) {
      map_ = nullptr;
      return;
    }
    out.emplace_back(*text);
  }
}

}  // namespace facet::wire
