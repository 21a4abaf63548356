// Reads the fields of a JSON object one by one; every problem is written down with its place, so
// that a bad file is reported all at once. null counts as absent, as in Hugging Face's files.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace facet {

// A JSON object; `where` begins each message. kCorrupt: something else, or nested too deeply.
// Repeated: what a key that is given twice in one object means. The last one counts, as in Python,
// or the error names it.
enum class Repeated { kLastCounts, kRefused };
Result<nlohmann::json> parse_json_object(std::string_view text, const std::string& where,
                                         Repeated repeated);

// The same from a file. kNotFound, kIo, kCorrupt (larger than 64 MiB too).
Result<nlohmann::json> read_json_object(const std::string& path,
                                        Repeated repeated = Repeated::kLastCounts);

// `value` as JSON, `name` as it is, for a message: without line breaks, cut to what a line holds.
std::string short_text(const nlohmann::json& value);
std::string short_name(std::string_view name);

class JsonFields {
 public:
  // `where` begins each message, e.g. "config.json: vision_config". Both outlive this object.
  JsonFields(const nlohmann::json& object, std::string where, std::vector<std::string>& problems)
      : object_(object), where_(std::move(where)), problems_(problems) {}

  bool has(std::string_view key) const;  // present and not null
  std::int64_t integer(std::string_view key, std::int64_t fallback, std::int64_t low,
                       std::int64_t high);
  double number(std::string_view key, double fallback, double low, double high);
  bool boolean(std::string_view key, bool fallback);
  std::string string(std::string_view key, std::string fallback);
  // An integer or an array of integers.
  std::vector<std::int64_t> integers(std::string_view key, std::vector<std::int64_t> fallback,
                                     std::int64_t low, std::int64_t high);
  // The member object, or an empty one.
  const nlohmann::json& object(std::string_view key);

  // Names every key that is in none of the lists and does not begin with an underscore.
  void refuse_unknown(std::initializer_list<const std::set<std::string_view>*> known);
  void problem(std::string_view key, const std::string& what);
  const std::string& where() const { return where_; }

 private:
  const nlohmann::json* find(std::string_view key) const;

  const nlohmann::json& object_;
  std::string where_;
  std::vector<std::string>& problems_;
};

// "a\nb": the message of an Error that lists them all.
std::string join_lines(const std::vector<std::string>& lines);

}  // namespace facet
