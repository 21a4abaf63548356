#include "worker/text/tokenizer_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "worker/text/json_fields.h"

namespace facet {
namespace {

Error refuse(std::string_view where, std::string_view what) {
  return Error(Code::kUnsupported, std::string(where) + ": " + std::string(what));
}

const nlohmann::json& field(const nlohmann::json& object, const char* key) {
  static const nlohmann::json null;
  const auto at = object.find(key);
  return at == object.end() ? null : *at;
}

Result<AddedToken> read_added_token(const nlohmann::json& json, std::string_view where) {
  FACET_TRY_STATUS(check_keys(json, where, {"id", "content", "single_word", "lstrip", "rstrip",
                                            "normalized", "special", "__type"}));
  AddedToken token;
  const auto& id = field(json, "id");
  if (!id.is_null() && !as_token_id(id)) return refuse(where, "id " + id.dump());
  token.id = as_token_id(id).value_or(-1);
  token.content = FACET_TRY(read_string(json, where, "content", ""));
  token.single_word = FACET_TRY(read_bool(json, where, "single_word", false));
  token.lstrip = FACET_TRY(read_bool(json, where, "lstrip", false));
  token.rstrip = FACET_TRY(read_bool(json, where, "rstrip", false));
  token.special = FACET_TRY(read_bool(json, where, "special", false));
  token.normalized = FACET_TRY(read_bool(json, where, "normalized", !token.special));
  return token;
}

const AddedToken* find_content(const std::vector<AddedToken>& tokens, const std::string& content) {
  const auto at = std::find_if(tokens.begin(), tokens.end(), [&](const AddedToken& token) {
    return token.content == content;
  });
  return at == tokens.end() ? nullptr : &*at;
}

}  // namespace

Status check_tokenizer_file(const nlohmann::json& json) {
  FACET_TRY_STATUS(check_keys(json, "tokenizer.json",
                              {"version", "truncation", "padding", "added_tokens", "normalizer",
                               "pre_tokenizer", "post_processor", "decoder", "model"}));
  // truncation and padding: transformers switches both off for a plain call, so they are not read.
  const auto& decoder = field(json, "decoder");
  if (decoder.is_null()) return refuse("tokenizer.json decoder", "missing; ByteLevel is needed");
  const std::string type = FACET_TRY(read_string(decoder, "tokenizer.json decoder", "type", ""));
  if (type != "ByteLevel") return refuse("tokenizer.json decoder", "type \"" + type + "\"");
  return {};
}

Result<bool> read_normalizer(const nlohmann::json& normalizer) {
  constexpr std::string_view kWhere = "tokenizer.json normalizer";
  if (normalizer.is_null()) return false;
  const std::string type = FACET_TRY(read_string(normalizer, kWhere, "type", ""));
  if (type == "NFC") {
    FACET_TRY_STATUS(check_keys(normalizer, kWhere, {"type"}));
    return true;
  }
  if (type != "Sequence") return refuse(kWhere, "type \"" + type + "\"");
  FACET_TRY_STATUS(check_keys(normalizer, kWhere, {"type", "normalizers"}));
  const auto& steps = field(normalizer, "normalizers");
  if (!steps.is_array()) return refuse(kWhere, "Sequence without normalizers");
  bool nfc = false;
  for (const auto& step : steps) nfc = FACET_TRY(read_normalizer(step)) || nfc;
  return nfc;
}

Result<std::vector<AddedToken>> read_added_tokens(const nlohmann::json& json,
                                                  const StringMap<std::int32_t>& vocabulary) {
  const std::string where = "tokenizer.json added_tokens";
  std::vector<AddedToken> tokens;
  if (json.is_null()) return tokens;
  if (!json.is_array()) return Error(Code::kInvalidArgument, where + " must be an array");
  auto next_id = static_cast<std::int32_t>(vocabulary.size());
  for (const auto& item : json) {
    AddedToken token = FACET_TRY(read_added_token(item, where));
    if (token.content.empty() || find_content(tokens, token.content) != nullptr) {
      return refuse(where, "empty or repeated content in " + item.dump());
    }
    const auto in_vocabulary = vocabulary.find(token.content);
    const std::int32_t id =
        in_vocabulary == vocabulary.end() ? next_id : in_vocabulary->second;
    if (token.id != id) {
      return refuse(where, "token \"" + token.content + "\" has id " + std::to_string(token.id) +
                               ", but its place in the file makes it " + std::to_string(id));
    }
    next_id = std::max(next_id, id + 1);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

Result<std::vector<std::int32_t>> read_template_prefix(const nlohmann::json& json) {
  const std::string where = "tokenizer.json post_processor";
  std::vector<std::int32_t> prefix;
  if (json.is_null()) return prefix;
  const std::string type = FACET_TRY(read_string(json, where, "type", ""));
  if (type == "ByteLevel") return prefix;
  if (type == "Sequence") {
    for (const auto& step : field(json, "processors")) {
      const auto more = FACET_TRY(read_template_prefix(step));
      prefix.insert(prefix.begin(), more.begin(), more.end());
    }
    return prefix;
  }
  if (type != "TemplateProcessing") return refuse(where, "type \"" + type + "\"");
  bool text_seen = false;
  for (const auto& piece : field(json, "single")) {
    if (piece.contains("Sequence")) {
      text_seen = true;
      continue;
    }
    const std::string name = FACET_TRY(read_string(field(piece, "SpecialToken"), where, "id", ""));
    const auto& ids = field(field(field(json, "special_tokens"), name.c_str()), "ids");
    if (text_seen || !ids.is_array() || ids.empty()) {
      return refuse(where, "template piece " + piece.dump());
    }
    for (const auto& id : ids) {
      if (!as_token_id(id)) return refuse(where, "id " + id.dump());
      prefix.push_back(*as_token_id(id));
    }
  }
  return prefix;
}

Status check_tokenizer_config(const std::filesystem::path& file,
                              const std::vector<AddedToken>& added_tokens) {
  if (!std::filesystem::exists(file)) return {};
  const nlohmann::json json = FACET_TRY(read_json_file(file.string()));
  const std::string where = "tokenizer_config.json";
  if (FACET_TRY(read_bool(json, where, "add_prefix_space", false))) {
    return refuse(where, "add_prefix_space");
  }
  const auto& decoder = field(json, "added_tokens_decoder");
  if (decoder.is_null()) return {};
  if (!decoder.is_object()) return refuse(where, "added_tokens_decoder is not an object");
  for (const auto& [id, item] : decoder.items()) {
    const AddedToken token = FACET_TRY(read_added_token(item, where + " added_tokens_decoder"));
    const AddedToken* known = find_content(added_tokens, token.content);
    if (known == nullptr || std::to_string(known->id) != id) {
      return refuse(where, "token " + id + " \"" + token.content + "\" is not in tokenizer.json");
    }
    const bool same = known->single_word == token.single_word && known->lstrip == token.lstrip &&
                      known->rstrip == token.rstrip && known->normalized == token.normalized &&
                      known->special == token.special;
    if (!same) return refuse(where, "token \"" + token.content + "\" differs from tokenizer.json");
  }
  return {};
}

}  // namespace facet
