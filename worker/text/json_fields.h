// Reading fields of a parsed JSON object with errors that name the place.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace facet {

// kUnsupported when the object has a key that is not in `known`; kInvalidArgument when `object` is
// not an object. `where` names it in the message, e.g. "tokenizer.json model".
Status check_keys(const nlohmann::json& object, std::string_view where,
                  std::initializer_list<std::string_view> known);

// The value of a boolean or string field. A missing or null field yields `otherwise`.
Result<bool> read_bool(const nlohmann::json& object, std::string_view where, const char* key,
                       bool otherwise);
Result<std::string> read_string(const nlohmann::json& object, std::string_view where,
                                const char* key, std::string_view otherwise);

// A token id: an integer from 0 to INT32_MAX. Anything else yields nothing.
std::optional<std::int32_t> as_token_id(const nlohmann::json& value);

// The whole file as JSON (an object). Errors name the file.
Result<nlohmann::json> read_json_file(const std::string& path);

}  // namespace facet
