#include <cstdio>

#include "common/config/byte_size.h"
#include "common/config/config.h"
#include "common/config/config_schema.h"

namespace facet {
namespace {

// A TOML basic string.
std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04X", static_cast<unsigned>(byte));
      out += escape;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

template <class Values, class Format>
std::string list(const Values& values, Format format) {
  std::string out = "[";
  for (const auto& value : values) out += (out.size() > 1 ? ", " : "") + format(value);
  return out + "]";
}

std::string value_text(const IntKey& key) {
  return std::visit([](const auto* field) { return std::to_string(*field); }, key.value);
}

std::string value_text(const BoolKey& key) {
  return *key.value ? "true" : "false";
}

std::string value_text(const BytesKey& key) {
  return quoted(format_byte_size(*key.value));
}

std::string value_text(const BytesListKey& key) {
  return list(*key.value, [](std::uint64_t bytes) { return quoted(format_byte_size(bytes)); });
}

std::string value_text(const TextKey& key) {
  return quoted(*key.value);
}

std::string value_text(const TextListKey& key) {
  return list(*key.value, [](const std::string& entry) { return quoted(entry); });
}

std::string value_text(const ChoiceKey& key) {
  return quoted(key.choices[static_cast<std::size_t>(key.get())]);
}

}  // namespace

std::string value_text(const ConfigKey& key) {
  return std::visit([](const auto& kind) { return value_text(kind); }, key.value);
}

std::string describe(const Config& config) {
  Config copy = config;  // the table points to fields that may be written
  std::string out;
  std::string_view table;
  for (const ConfigKey& key : config_keys(copy)) {
    const std::size_t dot = key.name.rfind('.');
    if (key.name.substr(0, dot) != table) {
      table = key.name.substr(0, dot);
      out += (out.empty() ? "[" : "\n[") + std::string(table) + "]\n";
    }
    out += std::string(key.name.substr(dot + 1)) + " = " +
           value_text(key) + "\n";
  }
  return out;
}

}  // namespace facet
