#include "worker/text/bpe.h"

#include <nlohmann/json.hpp>
#include <queue>

#include "worker/text/byte_level.h"
#include "worker/text/json_fields.h"

namespace facet {
namespace {

constexpr std::string_view kWhere = "tokenizer.json model";

Error refuse(std::string_view what) {
  return Error(Code::kUnsupported, std::string(kWhere) + ": " + std::string(what));
}

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

// "a b" or ["a", "b"].
Result<std::pair<std::string, std::string>> read_merge(const nlohmann::json& json) {
  if (json.is_array() && json.size() == 2 && json[0].is_string() && json[1].is_string()) {
    return std::pair(json[0].get<std::string>(), json[1].get<std::string>());
  }
  if (json.is_string()) {
    const auto& text = json.get_ref<const std::string&>();
    const std::size_t blank = text.find(' ');
    if (blank != std::string::npos && text.find(' ', blank + 1) == std::string::npos) {
      return std::pair(text.substr(0, blank), text.substr(blank + 1));
    }
  }
  return Error(Code::kInvalidArgument, std::string(kWhere) + ": merge " + json.dump() +
                                           " is neither \"a b\" nor [\"a\", \"b\"]");
}

// A symbol of the word being merged; neighbours by index, -1 at the ends.
struct Symbol {
  std::int32_t id;
  int previous, next;
};

// A possible merge of the symbol at `at` with its next one.
struct Candidate {
  std::uint32_t rank;
  int at;
  std::int32_t left, right, merged_id;

  // Lowest rank first, then leftmost.
  bool operator>(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : at > other.at;
  }
};

}  // namespace

Result<Bpe> Bpe::from_json(const nlohmann::json& json) {
  FACET_TRY_STATUS(check_keys(
      json, kWhere,
      {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
       "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"}));
  Bpe bpe;
  const std::string type = FACET_TRY(read_string(json, kWhere, "type", "BPE"));
  if (type != "BPE") return refuse("type \"" + type + "\"");
  const auto dropout = json.find("dropout");
  if (dropout != json.end() && !dropout->is_null() && *dropout != 0.0) return refuse("dropout");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!FACET_TRY(read_string(json, kWhere, key, "")).empty()) return refuse(key);
  }
  if (FACET_TRY(read_bool(json, kWhere, "byte_fallback", false))) return refuse("byte_fallback");
  bpe.ignore_merges_ = FACET_TRY(read_bool(json, kWhere, "ignore_merges", false));
  FACET_TRY_STATUS(bpe.read_vocabulary(json));
  FACET_TRY_STATUS(bpe.read_unk_token(json));
  FACET_TRY_STATUS(bpe.read_merges(json));
  return bpe;
}

Status Bpe::read_vocabulary(const nlohmann::json& json) {
  const auto vocab = json.find("vocab");
  if (vocab == json.end() || !vocab->is_object()) return refuse("vocab must be an object");
  vocabulary_.reserve(vocab->size());
  for (const auto& [token, value] : vocab->items()) {
    const auto id = as_token_id(value);
    if (!id) return refuse("id " + value.dump() + " of token \"" + token + "\"");
    vocabulary_.emplace(token, *id);
  }
  for (int byte = 0; byte < 256; ++byte) {
    const auto at = vocabulary_.find(byte_level_character(static_cast<std::uint8_t>(byte)));
    byte_ids_[static_cast<std::size_t>(byte)] = at == vocabulary_.end() ? -1 : at->second;
  }
  return {};
}

Status Bpe::read_unk_token(const nlohmann::json& json) {
  const std::string unk_token = FACET_TRY(read_string(json, kWhere, "unk_token", ""));
  if (unk_token.empty()) return {};
  for (std::size_t byte = 0; byte < byte_ids_.size(); ++byte) {
    if (byte_ids_[byte] >= 0) continue;
    return refuse("unk_token \"" + unk_token + "\" while byte " + std::to_string(byte) +
                  " has no token");
  }
  return {};
}

Status Bpe::read_merges(const nlohmann::json& json) {
  const auto merges = json.find("merges");
  if (merges == json.end() || !merges->is_array()) return refuse("merges must be an array");
  merges_.reserve(merges->size());
  std::uint32_t rank = 0;
  for (const auto& merge : *merges) {
    const auto [left, right] = FACET_TRY(read_merge(merge));
    const auto left_at = vocabulary_.find(left);
    const auto right_at = vocabulary_.find(right);
    const auto merged_at = vocabulary_.find(left + right);
    if (left_at == vocabulary_.end() || right_at == vocabulary_.end() ||
        merged_at == vocabulary_.end()) {
      return refuse("merge " + merge.dump() + " is of tokens that vocab does not have");
    }
    merges_.insert_or_assign(pair_key(left_at->second, right_at->second),
                             Merge{rank++, merged_at->second});
  }
  return {};
}

const Bpe::Merge* Bpe::find_merge(std::int32_t left, std::int32_t right) const {
  const auto at = merges_.find(pair_key(left, right));
  return at == merges_.end() ? nullptr : &at->second;
}

void Bpe::encode(std::string_view word, std::vector<std::int32_t>& ids) const {
  if (ignore_merges_) {
    const auto whole = vocabulary_.find(to_byte_level(word));
    if (whole != vocabulary_.end()) {
      ids.push_back(whole->second);
      return;
    }
  }
  const std::size_t first = ids.size();
  for (const char byte : word) {
    const std::int32_t id = byte_ids_[static_cast<std::uint8_t>(byte)];
    if (id >= 0) ids.push_back(id);
  }
  merge_all(ids, first);
}

// Merges ids[first..] in place: always the pair of lowest rank, the leftmost of equals.
void Bpe::merge_all(std::vector<std::int32_t>& ids, std::size_t first) const {
  const int count = static_cast<int>(ids.size() - first);
  std::vector<Symbol> symbols;
  symbols.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    const std::int32_t id = ids[first + static_cast<std::size_t>(i)];
    symbols.push_back({id, i - 1, i + 1 < count ? i + 1 : -1});
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto symbol = [&symbols](int at) -> Symbol& {
    return symbols[static_cast<std::size_t>(at)];
  };
  const auto consider = [&](int at) {
    if (at < 0 || symbol(at).next < 0) return;
    const std::int32_t left = symbol(at).id;
    const std::int32_t right = symbol(symbol(at).next).id;
    if (const Merge* merge = find_merge(left, right)) {
      queue.push({merge->rank, at, left, right, merge->merged_id});
    }
  };
  for (int i = 0; i + 1 < count; ++i) consider(i);
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& left = symbol(top.at);
    if (left.id != top.left || left.next < 0) continue;  // merged away since
    const int right_at = left.next;
    Symbol& right = symbol(right_at);
    if (right.id != top.right) continue;
    left.id = top.merged_id;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) symbol(left.next).previous = top.at;
    consider(left.previous);
    consider(top.at);
  }
  ids.resize(first);
  for (int at = count > 0 ? 0 : -1; at >= 0; at = symbol(at).next) ids.push_back(symbol(at).id);
}

}  // namespace facet
