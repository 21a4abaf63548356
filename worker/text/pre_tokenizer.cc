#include "worker/text/pre_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "worker/text/json_fields.h"

namespace facet {
namespace {

constexpr std::string_view kWhere = "tokenizer.json pre_tokenizer";
// The expression of ByteLevel with use_regex (GPT-2's).
constexpr std::string_view kByteLevelRegex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct Piece {
  ByteRange range;
  bool is_match;
};

std::vector<Piece> alternate(std::size_t text_bytes, const std::vector<ByteRange>& matches,
                             bool invert) {
  std::vector<Piece> pieces;
  std::size_t end = 0;
  for (const ByteRange match : matches) {
    if (end != match.begin) pieces.push_back({{end, match.begin}, invert});
    pieces.push_back({match, !invert});
    end = match.end;
  }
  if (end != text_bytes) pieces.push_back({{end, text_bytes}, invert});
  return pieces;
}

std::optional<SplitBehavior> parse_behavior(std::string_view name) {
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return std::nullopt;
}

std::string escape_literal(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("\\^$.|?*+()[]{}").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

Error refuse(std::string_view what) {
  return Error(Code::kUnsupported, std::string(kWhere) + ": " + std::string(what));
}

}  // namespace

std::vector<ByteRange> split_pieces(std::size_t text_bytes, const std::vector<ByteRange>& matches,
                                    SplitBehavior behavior, bool invert) {
  std::vector<Piece> pieces = alternate(text_bytes, matches, invert);
  const bool to_next = behavior == SplitBehavior::kMergedWithNext;
  if (to_next) std::reverse(pieces.begin(), pieces.end());
  std::vector<ByteRange> out;
  bool last_was_match = false;
  for (const Piece piece : pieces) {
    bool joins = false;  // the piece before it in this order
    if (behavior == SplitBehavior::kMergedWithPrevious || to_next) {
      joins = piece.is_match && !last_was_match;
    } else if (behavior == SplitBehavior::kContiguous) {
      joins = piece.is_match == last_was_match;
    }
    last_was_match = piece.is_match;
    if (behavior == SplitBehavior::kRemoved && piece.is_match) continue;
    if (joins && !out.empty()) {
      (to_next ? out.back().begin : out.back().end) = to_next ? piece.range.begin : piece.range.end;
    } else {
      out.push_back(piece.range);
    }
  }
  if (to_next) std::reverse(out.begin(), out.end());
  std::erase_if(out, [](const ByteRange& range) { return range.empty(); });
  return out;
}

Result<PreTokenizer> PreTokenizer::from_json(const nlohmann::json& json) {
  PreTokenizer result;
  if (json.is_null()) return refuse("missing; a ByteLevel step is needed");
  FACET_TRY_STATUS(result.add(json));
  if (!result.has_byte_level_) return refuse("a ByteLevel step is needed as the last one");
  return result;
}

Status PreTokenizer::add(const nlohmann::json& json) {
  const std::string type = FACET_TRY(read_string(json, kWhere, "type", ""));
  if (has_byte_level_) return refuse("a step \"" + type + "\" after ByteLevel");
  if (type == "Split") return add_split(json);
  if (type == "ByteLevel") return add_byte_level(json);
  if (type != "Sequence") return refuse("type \"" + type + "\"");
  FACET_TRY_STATUS(check_keys(json, kWhere, {"type", "pretokenizers"}));
  const auto steps = json.find("pretokenizers");
  if (steps == json.end() || !steps->is_array()) return refuse("Sequence without pretokenizers");
  for (const auto& step : *steps) FACET_TRY_STATUS(add(step));
  return {};
}

Status PreTokenizer::add_split(const nlohmann::json& json) {
  FACET_TRY_STATUS(check_keys(json, kWhere, {"type", "pattern", "behavior", "invert"}));
  const std::string name = FACET_TRY(read_string(json, kWhere, "behavior", ""));
  const auto behavior = parse_behavior(name);
  if (!behavior) return refuse("Split behavior \"" + name + "\"");
  const bool invert = FACET_TRY(read_bool(json, kWhere, "invert", false));
  const auto pattern = json.find("pattern");
  if (pattern == json.end()) return refuse("Split without pattern");
  FACET_TRY_STATUS(check_keys(*pattern, kWhere, {"Regex", "String"}));
  const std::string literal = FACET_TRY(read_string(*pattern, kWhere, "String", ""));
  const std::string regex = FACET_TRY(read_string(*pattern, kWhere, "Regex", ""));
  if (literal.empty() == regex.empty()) return refuse("Split needs one of Regex and String");
  Regex compiled = FACET_TRY(literal.empty() ? Regex::compile(regex)
                                             : Regex::compile_pcre2(escape_literal(literal)));
  steps_.push_back({std::move(compiled), *behavior, invert});
  return {};
}

Status PreTokenizer::add_byte_level(const nlohmann::json& json) {
  FACET_TRY_STATUS(
      check_keys(json, kWhere, {"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  add_prefix_space_ = FACET_TRY(read_bool(json, kWhere, "add_prefix_space", true));
  if (FACET_TRY(read_bool(json, kWhere, "use_regex", true))) {
    word_regex_.push_back(FACET_TRY(Regex::compile(kByteLevelRegex)));
  }
  has_byte_level_ = true;
  return {};
}

Result<std::vector<ByteRange>> PreTokenizer::split(std::string_view text) const {
  std::vector<ByteRange> pieces;
  if (!text.empty()) pieces.push_back({0, text.size()});
  for (const Step& step : steps_) {
    std::vector<ByteRange> finer;
    for (const ByteRange piece : pieces) {
      const std::string_view part = text.substr(piece.begin, piece.end - piece.begin);
      const std::vector<ByteRange> matches = FACET_TRY(step.regex.find_all(part));
      for (const ByteRange range :
           split_pieces(part.size(), matches, step.behavior, step.invert)) {
        finer.push_back({piece.begin + range.begin, piece.begin + range.end});
      }
    }
    pieces = std::move(finer);
  }
  return pieces;
}

}  // namespace facet
