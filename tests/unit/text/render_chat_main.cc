// facet_render_chat [--no-generation-prompt]: for each line of stdin, a JSON list of messages
// {"role", "content": text or list of {"type": "text", "text"} and {"type": "image"}}, prints the
// rendered prompt as a JSON string, or "error MESSAGE". For comparing with references.
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "worker/text/chat_template.h"

namespace {

facet::ChatMessage read_message(const nlohmann::json& from) {
  facet::ChatMessage message{from.at("role"), {}};
  const nlohmann::json& content = from.at("content");
  if (content.is_string()) {
    message.parts.push_back({facet::ChatPart::Kind::kText, content});
    return message;
  }
  for (const nlohmann::json& part : content) {
    if (part.at("type") == "image")
      message.parts.push_back({facet::ChatPart::Kind::kImage, ""});
    else
      message.parts.push_back({facet::ChatPart::Kind::kText, part.at("text")});
  }
  return message;
}

}  // namespace

int main(int argc, char** argv) {
  const bool open_answer = argc < 2 || std::string_view(argv[1]) != "--no-generation-prompt";
  for (std::string line; std::getline(std::cin, line);) {
    std::vector<facet::ChatMessage> messages;
    for (const auto& from : nlohmann::json::parse(line)) messages.push_back(read_message(from));
    const auto prompt = facet::render_qwen2_5_vl(messages, open_answer);
    if (!prompt) {
      std::cout << "error " << prompt.error().message << "\n";
      continue;
    }
    std::string text;
    for (const facet::PromptSegment& segment : prompt->segments) text += segment.text;
    std::cout << nlohmann::json(text).dump() << "\n";
  }
  return 0;
}
