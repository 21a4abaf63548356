#include "worker/text/json_fields.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "common/base/json_depth.h"

namespace facet {
namespace {

Error wrong(std::string_view where, const char* key, std::string_view what) {
  return Error(Code::kInvalidArgument, std::string(where) + ": \"" + key + "\" must be " +
                                           std::string(what));
}

}  // namespace

Status check_keys(const nlohmann::json& object, std::string_view where,
                  std::initializer_list<std::string_view> known) {
  if (!object.is_object()) {
    return Error(Code::kInvalidArgument, std::string(where) + " must be an object");
  }
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return Error(Code::kUnsupported,
                   std::string(where) + ": unknown key \"" + key + "\" = " + value.dump());
    }
  }
  return {};
}

Result<bool> read_bool(const nlohmann::json& object, std::string_view where, const char* key,
                       bool otherwise) {
  const auto at = object.find(key);
  if (at == object.end() || at->is_null()) return otherwise;
  if (!at->is_boolean()) return wrong(where, key, "true or false");
  return at->get<bool>();
}

Result<std::string> read_string(const nlohmann::json& object, std::string_view where,
                                const char* key, std::string_view otherwise) {
  const auto at = object.find(key);
  if (at == object.end() || at->is_null()) return std::string(otherwise);
  if (!at->is_string()) return wrong(where, key, "a string");
  return at->get<std::string>();
}

std::optional<std::int32_t> as_token_id(const nlohmann::json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  const auto id = value.get<std::int64_t>();
  if (id < 0 || id > INT32_MAX) return std::nullopt;
  return static_cast<std::int32_t>(id);
}

Result<nlohmann::json> read_json_file(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) return errno_error("open " + path, errno);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  FACET_TRY_STATUS(check_json_depth(text, path));
  nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Error(Code::kCorrupt, path + " is not a JSON object");
  return json;
}

}  // namespace facet
