#include "worker/image/preprocessor_config.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace facet {
namespace {

using nlohmann::json;

json published() {  // the keys that the family's checkpoints carry
  return {{"min_pixels", 3136},          {"max_pixels", 12845056},
          {"patch_size", 14},            {"temporal_patch_size", 2},
          {"merge_size", 2},             {"image_mean", {0.48145466, 0.4578275, 0.40821073}},
          {"image_std", {0.26862954, 0.26130258, 0.27577711}},
          {"image_processor_type", "Qwen2VLImageProcessor"},
          {"processor_class", "Qwen2_5_VLProcessor"}};
}

TEST(PreprocessorConfig, ReadsBothSpellings) {
  const auto old_spelling = parse_qwen_image_settings(published()).value();
  EXPECT_EQ(old_spelling.min_pixels, 3136);
  EXPECT_EQ(old_spelling.max_pixels, 12845056);
  json config = published();
  config.erase("min_pixels");
  config.erase("max_pixels");
  EXPECT_EQ(parse_qwen_image_settings(config)->max_pixels, 28 * 28 * 1280);
  config["size"] = {{"shortest_edge", 784}, {"longest_edge", 50176}, {"height", nullptr}};
  const auto new_spelling = parse_qwen_image_settings(config).value();
  EXPECT_EQ(new_spelling.min_pixels, 784);
  EXPECT_EQ(new_spelling.max_pixels, 50176);
  config["max_pixels"] = 100352;  // the old spelling wins
  EXPECT_EQ(parse_qwen_image_settings(config)->max_pixels, 100352);
  config["crop_size"] = nullptr;
  config["do_center_crop"] = false;
  config["resample"] = 3;
  config["do_resize"] = true;
  EXPECT_TRUE(parse_qwen_image_settings(config));
}

TEST(PreprocessorConfig, RefusesByName) {
  const std::pair<const char*, json> changes[] = {
      {"resample", 2},         {"do_resize", false},   {"do_normalize", false},
      {"do_rescale", false},   {"do_pad", true},       {"sharpen", 1},
      {"patch_size", 0},       {"merge_size", "two"},  {"min_pixels", 1.5},
      {"image_mean", {1, 2}},  {"image_std", {1, 0, 1}}, {"rescale_factor", 0},
      {"size", 224},           {"size", {{"shortest_edge", 5}}},
      {"size", {{"height", 5}}}, {"max_pixels", 100},  {"max_pixels", std::int64_t{1} << 40},
      {"image_processor_type", "SiglipImageProcessor"}};
  for (const auto& [key, value] : changes) {
    json config = published();
    if (std::string_view(key) == "size") config.erase("max_pixels");
    config[key] = value;
    const auto settings = parse_qwen_image_settings(config);
    ASSERT_FALSE(settings) << key << " " << value;
    EXPECT_NE(settings.error().message.find(key), std::string::npos) << settings.error().message;
  }
  EXPECT_FALSE(parse_qwen_image_settings(json::array()));
}

TEST(PreprocessorConfig, NestedFileComesFirst) {
  char pattern[] = "/tmp/facet_image_XXXXXX";
  const std::filesystem::path dir = mkdtemp(pattern);
  EXPECT_EQ(load_qwen_image_settings(dir).error().code, Code::kNotFound);
  std::ofstream(dir / "preprocessor_config.json") << published();
  EXPECT_EQ(load_qwen_image_settings(dir)->max_pixels, 12845056);
  json nested = published();
  nested["max_pixels"] = 50176;
  std::ofstream(dir / "processor_config.json") << json{{"image_processor", nested}};
  EXPECT_EQ(load_qwen_image_settings(dir)->max_pixels, 50176);
  std::ofstream(dir / "processor_config.json") << json{{"processor_class", "x"}};
  EXPECT_EQ(load_qwen_image_settings(dir)->max_pixels, 12845056);
  std::ofstream(dir / "preprocessor_config.json") << "{";
  EXPECT_EQ(load_qwen_image_settings(dir).error().code, Code::kCorrupt);
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace facet
