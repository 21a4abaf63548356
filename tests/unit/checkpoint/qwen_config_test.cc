#include "worker/checkpoint/qwen_config.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "worker/checkpoint/generation_defaults.h"
#include "worker/checkpoint/qwen_tensors.h"

namespace facet {
namespace {

using nlohmann::json;

// The settings of the 7B model as they are published.
json flat() {
  return json::parse(R"({
    "architectures": ["Qwen2_5_VLForConditionalGeneration"], "attention_dropout": 0.0,
    "bos_token_id": 151643, "eos_token_id": 151645, "vision_start_token_id": 151652,
    "vision_end_token_id": 151653, "vision_token_id": 151654, "image_token_id": 151655,
    "video_token_id": 151656, "hidden_act": "silu", "hidden_size": 3584,
    "initializer_range": 0.02, "intermediate_size": 18944, "max_position_embeddings": 128000,
    "max_window_layers": 28, "model_type": "qwen2_5_vl", "num_attention_heads": 28,
    "num_hidden_layers": 28, "num_key_value_heads": 4, "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": false,
    "torch_dtype": "bfloat16", "transformers_version": "4.41.2", "use_cache": true,
    "use_sliding_window": false, "vocab_size": 152064,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "vision_config": {"depth": 32, "hidden_act": "silu", "hidden_size": 1280,
      "intermediate_size": 3420, "num_heads": 16, "in_chans": 3, "out_hidden_size": 3584,
      "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14, "window_size": 112,
      "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2,
      "temporal_patch_size": 2}})");
}

json nested() {
  json old = flat();
  json root{{"architectures", old["architectures"]},
            {"model_type", "qwen2_5_vl"},
            {"dtype", "bfloat16"},
            {"image_token_id", 151655},
            {"tie_word_embeddings", false},
            {"vision_config", old["vision_config"]}};
  root["vision_config"]["rope_parameters"] = {{"rope_type", "axial"}, {"rope_theta", 10000.0}};
  json text{{"model_type", "qwen2_5_vl_text"}, {"sliding_window", nullptr}};
  for (const char* key : {"hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size",
                          "num_attention_heads", "num_key_value_heads", "rms_norm_eps",
                          "max_position_embeddings", "eos_token_id", "use_sliding_window"})
    text[key] = old[key];
  text["rope_parameters"] = {
      {"rope_type", "default"}, {"rope_theta", 1e6}, {"mrope_section", {16, 24, 24}}};
  text["layer_types"] = json(std::vector<std::string>(28, "full_attention"));
  root["text_config"] = text;
  return root;
}

void expect_refused(const json& root, const std::string& why) {
  const auto config = parse_qwen_config(root, "config.json");
  ASSERT_FALSE(config) << why;
  EXPECT_NE(config.error().message.find(why), std::string::npos) << config.error().message;
}

TEST(QwenConfig, BothSpellingsMeanTheSame) {
  const auto old = parse_qwen_config(flat(), "config.json");
  const auto fresh = parse_qwen_config(nested(), "config.json");
  ASSERT_TRUE(old) << old.error().message;
  ASSERT_TRUE(fresh) << fresh.error().message;
  EXPECT_EQ(old->text.head_dim(), 128);
  EXPECT_EQ(old->vision.window_cells(), 4);
  EXPECT_EQ(old->vision.patch_values(), 1176);
  for (const auto& config : {*old, *fresh}) {
    EXPECT_EQ(config.text.hidden_size, 3584);
    EXPECT_EQ(config.text.mrope_section, (std::array<std::int64_t, 3>{16, 24, 24}));
    EXPECT_EQ(config.text.rope_theta, 1e6);
    EXPECT_EQ(config.eos_token_ids, std::vector<std::int32_t>{151645});
    EXPECT_FALSE(config.tie_word_embeddings);
    EXPECT_TRUE(config.vision.is_full_attention(7));
    EXPECT_FALSE(config.vision.is_full_attention(8));
  }
}

TEST(QwenConfig, TyingMayStandInTheTextPart) {
  json root = nested();
  root["text_config"]["tie_word_embeddings"] = true;
  EXPECT_TRUE(parse_qwen_config(root, "c")->tie_word_embeddings);
}

TEST(QwenConfig, UnknownKeysAreRefusedByName) {
  for (const char* place : {"", "/vision_config"}) {
    json root = flat();
    root[json::json_pointer(std::string(place) + "/quantization_config")] = {{"bits", 4}};
    expect_refused(root, "quantization_config");
    root[json::json_pointer(std::string(place) + "/quantization_config")] = nullptr;
    EXPECT_TRUE(parse_qwen_config(root, "config.json"));
  }
  json root = nested();
  root["text_config"]["no_such_thing"] = 1;
  expect_refused(root, "text_config: no_such_thing");
}

TEST(QwenConfig, UnsupportedAndImpossibleValuesAreRefusedByName) {
  const auto with = [](const std::string& pointer, const json& value) {
    json root = flat();
    root[json::json_pointer(pointer)] = value;
    return root;
  };
  expect_refused(with("/model_type", "qwen2_vl"), "qwen2_vl");
  expect_refused(with("/rope_scaling/type", "yarn"), "yarn");
  expect_refused(with("/rope_scaling/factor", 4.0), "factor");
  expect_refused(with("/rope_scaling/mrope_section", {16, 24}), "mrope_section");
  expect_refused(with("/rope_scaling/mrope_section", {16, 24, 25}), "mrope_section");
  expect_refused(with("/hidden_act", "gelu"), "gelu");
  expect_refused(with("/vision_config/hidden_act", "gelu"), "vision_config: hidden_act");
  expect_refused(with("/hidden_size", "big"), "hidden_size");
  expect_refused(with("/hidden_size", 3585), "num_attention_heads");
  expect_refused(with("/num_key_value_heads", 3), "num_key_value_heads");
  expect_refused(with("/num_hidden_layers", 0), "num_hidden_layers");
  expect_refused(with("/layer_types", {"sliding_attention"}), "sliding_attention");
  expect_refused(with("/vision_config/out_hidden_size", 7), "out_hidden_size");
  expect_refused(with("/vision_config/fullatt_block_indexes", {7, 32}), "fullatt_block_indexes");
  expect_refused(with("/vision_config/in_chans", 4), "in_channels");
  json windows = with("/use_sliding_window", true);
  windows["max_window_layers"] = 20;
  expect_refused(windows, "use_sliding_window");
  json two = with("/hidden_act", "gelu");
  two["nonsense"] = 1;
  expect_refused(two, "nonsense");
  expect_refused(two, "gelu");
}

TEST(QwenTensors, NamesOfBothSpellingsMeet) {
  EXPECT_EQ(qwen_canonical_name("visual.merger.ln_q.weight"), "model.visual.merger.ln_q.weight");
  EXPECT_EQ(qwen_canonical_name("model.visual.x"), "model.visual.x");
  EXPECT_EQ(qwen_canonical_name("model.norm.weight"), "model.language_model.norm.weight");
  EXPECT_EQ(qwen_canonical_name("model.language_model.norm.weight"),
            "model.language_model.norm.weight");
  EXPECT_EQ(qwen_canonical_name("lm_head.weight"), "lm_head.weight");
  // 28 layers of 12, 32 blocks of 12, and the rest, as the published index lists them.
  EXPECT_EQ(qwen_tensor_specs(*parse_qwen_config(flat(), "c")).size(), 28u * 12 + 32u * 12 + 9);
}

TEST(GenerationDefaults, ReadsWhatMattersAndRefusesTheRest) {
  std::string folder = std::filesystem::temp_directory_path() / "facet-generation-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const auto load = [&](const std::string& text) {
    std::ofstream(folder + "/generation_config.json") << text;
    return load_generation_defaults(folder);
  };
  EXPECT_EQ(load_generation_defaults(folder)->repetition_penalty, 1.0);
  const auto good = load(R"({"bos_token_id":1,"eos_token_id":[151645,151643],"do_sample":true,
    "temperature":1e-06,"repetition_penalty":1.05,"num_beams":1})");
  ASSERT_TRUE(good) << good.error().message;
  EXPECT_EQ(good->eos_token_ids, (std::vector<std::int32_t>{151645, 151643}));
  EXPECT_EQ(good->repetition_penalty, 1.05);
  EXPECT_EQ(load(R"({"eos_token_id":7})")->eos_token_ids, std::vector<std::int32_t>{7});
  for (const char* bad : {R"({"num_beams":4})", R"({"suppress_tokens":[1]})", R"([])",
                          R"({"repetition_penalty":"x"})", R"({"eos_token_id":[-1]})"})
    EXPECT_FALSE(load(bad)) << bad;
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace facet
