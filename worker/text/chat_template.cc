#include "worker/text/chat_template.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "worker/text/json_fields.h"

namespace facet {
namespace {

constexpr std::string_view kImage = "<|vision_start|><|image_pad|><|vision_end|>";
constexpr std::string_view kDefaultSystem = "You are a helpful assistant.";

// Joins neighbours of one kind, so that words run on across parts as in one rendered string.
class Writer {
 public:
  void markup(std::string_view text) { add(text, true); }
  void message_text(std::string_view text) { add(text, false); }
  void image() {
    add(kImage, true);
    ++prompt.num_images;
  }

  RenderedPrompt prompt;

 private:
  void add(std::string_view text, bool parse) {
    if (text.empty()) return;
    auto& segments = prompt.segments;
    if (segments.empty() || segments.back().parse_added_tokens != parse) {
      segments.push_back({"", parse});
    }
    segments.back().text += text;
  }
};

Status check_role(std::string_view role) {
  if (role == "system" || role == "user" || role == "assistant") return {};
  return Error(Code::kInvalidArgument, "role \"" + std::string(role) +
                                           "\" is none of system, user, assistant");
}

// The template as the reference would find it: the .jinja file first, then the JSON files.
Result<std::optional<std::string>> find_template(const std::filesystem::path& model_dir) {
  const auto jinja = model_dir / "chat_template.jinja";
  if (std::filesystem::exists(jinja)) {
    std::ifstream file(jinja, std::ios::binary);
    if (!file) return errno_error("open " + jinja.string(), errno);
    return std::optional(std::string(std::istreambuf_iterator<char>(file), {}));
  }
  for (const char* name : {"chat_template.json", "tokenizer_config.json"}) {
    const auto path = model_dir / name;
    if (!std::filesystem::exists(path)) continue;
    const nlohmann::json json = FACET_TRY(read_json_file(path.string()));
    const auto at = json.find("chat_template");
    if (at == json.end() || at->is_null()) continue;
    if (!at->is_string()) {
      return Error(Code::kUnsupported, path.string() + ": chat_template is not a string");
    }
    return std::optional(at->get<std::string>());
  }
  return std::optional<std::string>();
}

}  // namespace

Result<RenderedPrompt> render_qwen2_5_vl(std::span<const ChatMessage> messages,
                                         bool add_generation_prompt) {
  if (messages.empty()) return Error(Code::kInvalidArgument, "a conversation needs a message");
  Writer writer;
  if (messages.front().role != "system") {
    writer.markup("<|im_start|>system\n" + std::string(kDefaultSystem) + "<|im_end|>\n");
  }
  for (const ChatMessage& message : messages) {
    FACET_TRY_STATUS(check_role(message.role));
    writer.markup("<|im_start|>" + message.role + "\n");
    for (const ChatPart& part : message.parts) {
      if (part.kind == ChatPart::Kind::kImage) {
        writer.image();
      } else {
        writer.message_text(part.text);
      }
    }
    writer.markup("<|im_end|>\n");
  }
  if (add_generation_prompt) writer.markup("<|im_start|>assistant\n");
  return std::move(writer.prompt);
}

Status check_chat_template(std::string_view model_type, const std::filesystem::path& model_dir) {
  if (model_type != "qwen2_5_vl") {
    return Error(Code::kUnsupported,
                 "no chat template renderer for model_type \"" + std::string(model_type) + "\"");
  }
  const std::optional<std::string> text = FACET_TRY(find_template(model_dir));
  if (!text) return {};
  for (const std::string_view mark :
       {std::string_view("<|im_start|>"), std::string_view("<|im_end|>"), kImage, kDefaultSystem}) {
    if (text->find(mark) != std::string::npos) continue;
    return Error(Code::kUnsupported, "the chat template in " + model_dir.string() +
                                         " is not Qwen2.5-VL's: it has no \"" +
                                         std::string(mark) + "\"");
  }
  return {};
}

Result<std::vector<std::int32_t>> expand_image_tokens(std::span<const std::int32_t> ids,
                                                      std::int32_t image_token_id,
                                                      std::span<const std::int32_t> counts) {
  const auto found = std::count(ids.begin(), ids.end(), image_token_id);
  if (static_cast<std::size_t>(found) != counts.size()) {
    return Error(Code::kInvalidArgument, std::to_string(found) + " image tokens in the prompt, " +
                                             std::to_string(counts.size()) + " images");
  }
  std::vector<std::int32_t> out;
  std::size_t image_index = 0;
  for (const std::int32_t id : ids) {
    std::int32_t copies = 1;
    if (id == image_token_id) copies = counts[image_index++];
    if (copies < 1) {
      return Error(Code::kInvalidArgument, "image " + std::to_string(image_index - 1) + " has " +
                                               std::to_string(copies) + " tokens");
    }
    out.insert(out.end(), static_cast<std::size_t>(copies), id);
  }
  return out;
}

}  // namespace facet
