#include "worker/image/preprocessor_config.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "common/base/json_depth.h"

namespace facet {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaxPixels = 1 << 28;  // of a resized image: 1.6 GB as float patches
constexpr std::int64_t kMaxPatchSize = 128;
constexpr std::int64_t kMaxTemporalPatchSize = 8;
constexpr std::int64_t kMaxMergeSize = 8;
constexpr int kBicubic = 3;  // PIL.Image.Resampling.BICUBIC

Error refuse(const std::string& what) {
  return Error(Code::kUnsupported, "preprocessor_config.json: " + what);
}

// Keys that say what the settings are, not how to process.
bool is_label(std::string_view key) {
  return key == "image_processor_type" || key == "processor_class" ||
         key == "feature_extractor_type" || key == "data_format" ||
         key == "input_data_format" || key == "default_to_square" || key == "disable_grouping" ||
         key == "return_tensors" || key == "device";
}

Status read_int(const json& value, const std::string& key, std::int64_t max, std::int64_t& out) {
  if (!value.is_number_integer() || value.get<std::int64_t>() < 1 ||
      value.get<std::int64_t>() > max) {
    return refuse("\"" + key + "\" = " + value.dump() + "; an integer from 1 to " +
                  std::to_string(max) + " is needed");
  }
  out = value.get<std::int64_t>();
  return {};
}

Status read_colors(const json& value, const std::string& key, std::array<double, 3>& out) {
  bool good = value.is_array() && value.size() == 3;
  for (std::size_t i = 0; good && i < 3; ++i) {
    good = value[i].is_number() && std::isfinite(value[i].get<double>());
    if (good) out[i] = value[i].get<double>();
  }
  if (!good) return refuse("\"" + key + "\" = " + value.dump() + "; three numbers are needed");
  return {};
}

Status read_size(const json& value, QwenImageSettings& out) {
  if (!value.is_object()) return refuse("\"size\" = " + value.dump() + "; an object is needed");
  out.min_pixels = out.max_pixels = 0;  // a size replaces the defaults as a whole
  for (const auto& [key, item] : value.items()) {
    if (item.is_null()) continue;
    if (key == "shortest_edge") {
      FACET_TRY_STATUS(read_int(item, "size.shortest_edge", kMaxPixels, out.min_pixels));
    } else if (key == "longest_edge") {
      FACET_TRY_STATUS(read_int(item, "size.longest_edge", kMaxPixels, out.max_pixels));
    } else if (key != "min_pixels" && key != "max_pixels") {  // these two the reference drops
      return refuse("unknown key \"size." + key + "\" = " + item.dump());
    }
  }
  return {};
}

Status read_key(const std::string& key, const json& value, QwenImageSettings& out) {
  if (key == "patch_size") return read_int(value, key, kMaxPatchSize, out.patch_size);
  if (key == "merge_size") return read_int(value, key, kMaxMergeSize, out.merge_size);
  if (key == "temporal_patch_size") {
    return read_int(value, key, kMaxTemporalPatchSize, out.temporal_patch_size);
  }
  if (key == "image_mean") return read_colors(value, key, out.mean);
  if (key == "image_std") {
    FACET_TRY_STATUS(read_colors(value, key, out.std_dev));
    const bool zero = std::find(out.std_dev.begin(), out.std_dev.end(), 0.0) != out.std_dev.end();
    if (zero) return refuse("\"image_std\" has a zero");
    return {};
  }
  if (key == "rescale_factor") {
    if (!value.is_number() || !(value.get<double>() > 0)) {
      return refuse("\"rescale_factor\" = " + value.dump() + "; a number above 0 is needed");
    }
    out.rescale_factor = value.get<double>();
    return {};
  }
  if (key == "resample") {
    if (value != kBicubic) return refuse("\"resample\" = " + value.dump() + "; only 3 (bicubic)");
    return {};
  }
  const bool needed = key == "do_resize" || key == "do_rescale" || key == "do_normalize" ||
                      key == "do_convert_rgb";
  const bool absent = key == "do_center_crop" || key == "do_pad";
  if ((needed && value == true) || (absent && value == false) || is_label(key)) return {};
  return refuse((needed || absent ? "\"" : "unknown key \"") + key + "\" = " + value.dump());
}

Status check_type(const json& object) {
  const auto at = object.find("image_processor_type");
  if (at == object.end() || at->is_null()) return {};
  for (const char* known : {"Qwen2VLImageProcessor", "Qwen2VLImageProcessorFast",
                            "Qwen2_5_VLImageProcessor", "Qwen2_5_VLImageProcessorFast"}) {
    if (*at == known) return {};
  }
  return refuse("\"image_processor_type\" = " + at->dump());
}

Result<json> read_object(const std::filesystem::path& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) return errno_error("open " + path.string(), errno);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  FACET_TRY_STATUS(check_json_depth(text, path.string()));
  json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return Error(Code::kCorrupt, path.string() + " is not a JSON object");
  return parsed;
}

}  // namespace

Result<QwenImageSettings> parse_qwen_image_settings(const json& object) {
  if (!object.is_object()) return refuse("an object is needed");
  FACET_TRY_STATUS(check_type(object));
  QwenImageSettings out;
  const auto find = [&object](const char* key) -> const json* {
    const auto at = object.find(key);
    return at == object.end() || at->is_null() ? nullptr : &*at;
  };
  if (const json* size = find("size")) FACET_TRY_STATUS(read_size(*size, out));
  if (const json* value = find("min_pixels")) {
    FACET_TRY_STATUS(read_int(*value, "min_pixels", kMaxPixels, out.min_pixels));
  }
  if (const json* value = find("max_pixels")) {
    FACET_TRY_STATUS(read_int(*value, "max_pixels", kMaxPixels, out.max_pixels));
  }
  if (out.min_pixels == 0 || out.max_pixels == 0) {
    return refuse("\"size\" needs both shortest_edge and longest_edge");
  }
  for (const auto& [key, value] : object.items()) {
    if (value.is_null() || key == "size" || key == "min_pixels" || key == "max_pixels") continue;
    FACET_TRY_STATUS(read_key(key, value, out));
  }
  if (out.max_pixels < out.min_pixels) {
    return refuse("max_pixels " + std::to_string(out.max_pixels) + " is below min_pixels " +
                  std::to_string(out.min_pixels));
  }
  return out;
}

Result<QwenImageSettings> load_qwen_image_settings(const std::filesystem::path& model_dir) {
  const auto nested = model_dir / "processor_config.json";
  if (std::filesystem::exists(nested)) {
    const json config = FACET_TRY(read_object(nested));
    const auto at = config.find("image_processor");
    if (at != config.end()) return parse_qwen_image_settings(*at);
  }
  return parse_qwen_image_settings(FACET_TRY(read_object(model_dir / "preprocessor_config.json")));
}

}  // namespace facet
