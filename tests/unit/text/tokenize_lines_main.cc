// facet_tokenize_lines TOKENIZER_JSON: for each line of stdin, a JSON string or a JSON list of
// [text, parse_added_tokens] pairs, prints the token ids with blanks between. With --decode a line
// is a list of ids and the output the decoded text as a JSON string. For comparing with references.
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "worker/text/incremental_text.h"
#include "worker/text/tokenizer.h"

namespace {

std::vector<facet::TextSegment> read_segments(const nlohmann::json& line) {
  if (line.is_string()) return {{line.get_ref<const std::string&>(), true}};
  std::vector<facet::TextSegment> segments;
  for (const auto& pair : line) {
    segments.push_back({pair[0].get_ref<const std::string&>(), pair[1].get<bool>()});
  }
  return segments;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const bool decode = argc > 2 && std::string_view(argv[2]) == "--decode";
  const auto tokenizer = facet::Tokenizer::load(argv[1]);
  if (!tokenizer) {
    std::cerr << tokenizer.error().message << "\n";
    return 1;
  }
  for (std::string text; std::getline(std::cin, text);) {
    const auto line = nlohmann::json::parse(text);
    if (decode) {
      facet::IncrementalText incremental(*tokenizer);
      std::string out = incremental.feed(line.get<std::vector<std::int32_t>>());
      std::cout << nlohmann::json(out + incremental.finish()).dump() << "\n";
      continue;
    }
    const auto ids = tokenizer->encode(read_segments(line));
    if (!ids) {
      std::cout << "error " << ids.error().message << "\n";
      continue;
    }
    for (std::size_t i = 0; i < ids->size(); ++i) std::cout << (i > 0 ? " " : "") << (*ids)[i];
    std::cout << "\n";
  }
  return 0;
}
