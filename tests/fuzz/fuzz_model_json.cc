// config.json and tokenizer.json of a model directory: refused with a name, or good to work with.
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/base/check.h"
#include "common/protocol/text_check.h"
#include "tests/fuzz/fuzz_target.h"
#include "worker/checkpoint/qwen_config.h"
#include "worker/text/tokenizer.h"

namespace facet::fuzz {
namespace {

constexpr std::string_view kConfigPlaces[] = {"config.json: "};
constexpr std::string_view kTokenizerPlaces[] = {"tokenizer.json", "merge", "added token",
                                                 "regular expression", "pattern"};
constexpr std::size_t kMaxErrorBytes = 1 << 20;

std::string slurp(const std::string& name) {
  std::ostringstream text;
  text << std::ifstream(FACET_SOURCE_DIR + ("/" + name)).rdbuf();
  FACET_CHECK_MSG(!text.str().empty(), name.c_str());
  return text.str();
}

void check_config(const nlohmann::json& json) {
  const auto config = parse_qwen_config(json, "config.json");
  if (!config) return check_refusal(config.error(), kMaxErrorBytes, kConfigPlaces);
  const QwenTextConfig& text = config->text;
  FACET_CHECK(text.num_heads > 0 && text.hidden_size % text.num_heads == 0);
  FACET_CHECK(text.num_kv_heads > 0 && text.num_heads % text.num_kv_heads == 0);
  FACET_CHECK(2 * (text.mrope_section[0] + text.mrope_section[1] + text.mrope_section[2]) ==
              text.head_dim());
  const QwenVisionConfig& vision = config->vision;
  FACET_CHECK(vision.head_dim() % 4 == 0 && vision.window_cells() >= 1);
  FACET_CHECK(vision.merge_unit() >= 1 && vision.patch_values() >= 1);
  for (const std::int64_t block : vision.full_attention_blocks) {
    FACET_CHECK(block >= 0 && block < vision.depth);
  }
  for (const std::int32_t id : config->eos_token_ids) FACET_CHECK(id >= 0);
}

void check_tokenizer(const nlohmann::json& json) {
  const auto tokenizer = Tokenizer::from_json(json);
  if (!tokenizer) return check_refusal(tokenizer.error(), kMaxErrorBytes, kTokenizerPlaces);
  const std::string text = "Hello  wörld, 123\n\xF0\x9F\x98\x80 <|im_start|>user";
  const auto ids = tokenizer->encode(text);
  if (!ids) return check_refusal(ids.error(), kMaxErrorBytes, kTokenizerPlaces);
  for (const std::int32_t id : *ids) {
    FACET_CHECK(id >= 0 && id < tokenizer->num_ids());
    FACET_CHECK(tokenizer->token_bytes(id).size() <= tokenizer->max_token_bytes());
  }
}

}  // namespace

std::vector<std::string> seeds() {
  const std::string small =
      R"({"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]},"added_tokens":)"
      R"([{"id":3,"content":"<x>","special":true,"lstrip":true}],"normalizer":{"type":"NFC"},)"
      R"("pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":)"
      R"({"Regex":"\\s+|\\p{L}+"},"behavior":"Isolated","invert":false},{"type":"ByteLevel",)"
      R"("add_prefix_space":false,"use_regex":false}]},"decoder":{"type":"ByteLevel"},)"
      R"("post_processor":{"type":"ByteLevel"}})";
  return {slurp("configs/demo-model/config.json"), slurp("configs/demo-model/tokenizer.json"),
          small};
}

void run_one(std::string_view input) {
  const auto json = nlohmann::json::parse(input, nullptr, false);
  if (!json.is_object()) return;
  if (json.contains("model")) {
    check_tokenizer(json);
  } else {
    check_config(json);
  }
}

}  // namespace facet::fuzz
