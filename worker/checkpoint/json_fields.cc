#include "worker/checkpoint/json_fields.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include "common/base/json_depth.h"

namespace facet {
namespace {

using nlohmann::json;

constexpr std::uintmax_t kMaxJsonBytes = 64u << 20;  // the largest index.json seen is below 1 MB
constexpr std::size_t kMaxShownBytes = 200;          // of a name or value in a message

std::string number_text(double value) {
  return json(value).dump();
}

}  // namespace

Result<json> parse_json_object(std::string_view text, const std::string& where, Repeated repeated) {
  FACET_TRY_STATUS(check_json_depth(text, where));
  std::vector<std::set<std::string>> open;  // keys of each object around the current place
  std::optional<std::string> twice;
  const auto watch = [&](int, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) open.emplace_back();
    if (event == json::parse_event_t::object_end) open.pop_back();
    if (event == json::parse_event_t::key &&
        !open.back().insert(parsed.get_ref<const std::string&>()).second)
      twice = parsed.get<std::string>();
    return true;
  };
  json value = repeated == Repeated::kRefused ? json::parse(text, watch, false)
                                              : json::parse(text, nullptr, false);
  if (!value.is_object()) return Error(Code::kCorrupt, where + ": is not a JSON object");
  if (twice) return Error(Code::kCorrupt, where + ": " + short_name(*twice) + " is given twice");
  return value;
}

Result<json> read_json_object(const std::string& path, Repeated repeated) {
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(path, error);
  if (error) return errno_error("read " + path, error.value());
  if (bytes > kMaxJsonBytes)
    return Error(Code::kCorrupt, path + ": " + std::to_string(bytes) + " bytes, at most " +
                                     std::to_string(kMaxJsonBytes) + " are read");
  std::ifstream file(path, std::ios::binary);
  if (!file) return errno_error("open " + path, errno);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return parse_json_object(text, path, repeated);
}

std::string short_text(const json& value) {
  return short_name(value.dump(-1, ' ', true));
}

std::string short_name(std::string_view name) {
  std::string text(name.substr(0, kMaxShownBytes));
  // Not within a character.
  while (name.size() > kMaxShownBytes && !text.empty() && (text.back() & 0xC0) == 0x80)
    text.pop_back();
  if (name.size() > kMaxShownBytes && !text.empty() && (text.back() & 0x80) != 0) text.pop_back();
  std::replace_if(
      text.begin(), text.end(), [](char c) { return (c >= 0 && c < ' ') || c == 0x7f; }, '?');
  return name.size() > kMaxShownBytes ? text + "..." : text;
}

const json* JsonFields::find(std::string_view key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

bool JsonFields::has(std::string_view key) const {
  return find(key) != nullptr;
}

void JsonFields::problem(std::string_view key, const std::string& what) {
  problems_.push_back(where_ + ": " + short_name(key) + ": " + what);
}

std::int64_t JsonFields::integer(std::string_view key, std::int64_t fallback, std::int64_t low,
                                 std::int64_t high) {
  const json* value = find(key);
  if (value == nullptr) return fallback;
  const bool fits = value->is_number_integer() && value->get<std::int64_t>() >= low &&
                    value->get<std::int64_t>() <= high;
  if (fits) return value->get<std::int64_t>();
  problem(key, short_text(*value) + " is not an integer from " + std::to_string(low) + " to " +
                   std::to_string(high));
  return fallback;
}

double JsonFields::number(std::string_view key, double fallback, double low, double high) {
  const json* value = find(key);
  if (value == nullptr) return fallback;
  if (value->is_number() && value->get<double>() >= low && value->get<double>() <= high)
    return value->get<double>();
  problem(key, short_text(*value) + " is not a number from " + number_text(low) + " to " +
                   number_text(high));
  return fallback;
}

bool JsonFields::boolean(std::string_view key, bool fallback) {
  const json* value = find(key);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  problem(key, short_text(*value) + " is not true or false");
  return fallback;
}

std::string JsonFields::string(std::string_view key, std::string fallback) {
  const json* value = find(key);
  if (value == nullptr) return fallback;
  if (value->is_string()) return value->get<std::string>();
  problem(key, short_text(*value) + " is not a string");
  return fallback;
}

std::vector<std::int64_t> JsonFields::integers(std::string_view key,
                                               std::vector<std::int64_t> fallback, std::int64_t low,
                                               std::int64_t high) {
  const json* value = find(key);
  if (value == nullptr) return fallback;
  const json list = value->is_array() ? *value : json::array({*value});
  std::vector<std::int64_t> numbers;
  for (const json& item : list) {
    if (!item.is_number_integer() || item.get<std::int64_t>() < low ||
        item.get<std::int64_t>() > high) {
      problem(key, short_text(item) + " is not an integer from " + std::to_string(low) + " to " +
                       std::to_string(high));
      return fallback;
    }
    numbers.push_back(item.get<std::int64_t>());
  }
  return numbers;
}

const json& JsonFields::object(std::string_view key) {
  static const json kEmpty = json::object();
  const json* value = find(key);
  if (value == nullptr) return kEmpty;
  if (value->is_object()) return *value;
  problem(key, "is not an object");
  return kEmpty;
}

void JsonFields::refuse_unknown(std::initializer_list<const std::set<std::string_view>*> known) {
  for (const auto& item : object_.items()) {
    const std::string& key = item.key();
    if (key.starts_with('_')) continue;
    const bool found = std::any_of(known.begin(), known.end(),
                                   [&](const auto* keys) { return keys->contains(key); });
    if (!found && !item.value().is_null()) problem(key, "is not a key this version knows");
  }
}

std::string join_lines(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += (text.empty() ? "" : "\n") + line;
  return text;
}

}  // namespace facet
