#include "worker/text/tokenizer.h"

#include <algorithm>
#include <mutex>
#include <nlohmann/json.hpp>

#include "worker/text/added_tokens.h"
#include "worker/text/bpe.h"
#include "worker/text/byte_level.h"
#include "worker/text/json_fields.h"
#include "worker/text/nfc.h"
#include "worker/text/pre_tokenizer.h"
#include "worker/text/prompt_text.h"
#include "worker/text/tokenize.h"
#include "worker/text/tokenizer_file.h"

namespace facet {
namespace {

constexpr std::size_t kMaxCachedWords = 1 << 16;  // about 10 MB of the commonest words
constexpr std::size_t kMaxCachedWordBytes = 64;   // longer words seldom come again

using Ids = std::vector<std::int32_t>;

// A token that is searched in normalized text is itself normalized, and decodes to that form.
std::string searched_content(const AddedToken& token, bool nfc) {
  return token.normalized && nfc ? normalize_nfc(token.content) : token.content;
}

}  // namespace

struct Tokenizer::State {
  Bpe bpe;
  PreTokenizer pre_tokenizer;
  std::vector<AddedToken> added_tokens;
  AddedTokenMatcher raw_matcher;         // of added tokens with normalized false
  AddedTokenMatcher normalized_matcher;  // of those with normalized true
  bool nfc = false;
  Ids template_prefix;
  std::vector<std::string> bytes;  // by id
  std::vector<bool> special;       // by id
  std::size_t max_token_bytes = 0;

  std::mutex mutex;  // guards what follows, and the workspaces of the regular expressions
  StringMap<Ids> words;

  void fill_tables();
  void encode_word(std::string_view word, Ids& ids);
  Status encode_plain(std::string_view text, Ids& ids);
  Status encode_part(const PromptText& prompt, ByteRange range, Ids& ids);
};

void Tokenizer::State::fill_tables() {
  std::int32_t num_ids = 0;
  for (const auto& [token, id] : bpe.vocabulary()) num_ids = std::max(num_ids, id + 1);
  for (const AddedToken& token : added_tokens) num_ids = std::max(num_ids, token.id + 1);
  bytes.resize(static_cast<std::size_t>(num_ids));
  special.resize(static_cast<std::size_t>(num_ids));
  for (const auto& [token, id] : bpe.vocabulary()) {
    bytes[static_cast<std::size_t>(id)] = from_byte_level(token);
  }
  for (const AddedToken& token : added_tokens) {
    const std::string content = searched_content(token, nfc);
    bytes[static_cast<std::size_t>(token.id)] = from_byte_level(content);
    special[static_cast<std::size_t>(token.id)] = token.special && content == token.content;
  }
  for (const std::string& text : bytes) max_token_bytes = std::max(max_token_bytes, text.size());
}

void Tokenizer::State::encode_word(std::string_view word, Ids& ids) {
  if (word.size() > kMaxCachedWordBytes) return bpe.encode(word, ids);
  auto at = words.find(word);
  if (at == words.end()) {
    if (words.size() >= kMaxCachedWords) words.clear();
    Ids fresh;
    bpe.encode(word, fresh);
    at = words.emplace(word, std::move(fresh)).first;
  }
  ids.insert(ids.end(), at->second.begin(), at->second.end());
}

Status Tokenizer::State::encode_plain(std::string_view text, Ids& ids) {
  return pre_tokenizer.for_each_word(text,
                                     [&](std::string_view word) { encode_word(word, ids); });
}

// A stretch without raw added tokens: normalize, find normalized added tokens, encode the rest.
Status Tokenizer::State::encode_part(const PromptText& prompt, ByteRange range, Ids& ids) {
  const PromptText part = normalized_part(prompt, range, nfc);
  const auto splits = FACET_TRY(normalized_matcher.split(part.text, part.modes));
  for (const AddedTokenSplit& split : splits) {
    if (split.token_id >= 0) {
      ids.push_back(split.token_id);
    } else {
      const std::string_view text = part.text;
      FACET_TRY_STATUS(
          encode_plain(text.substr(split.range.begin, split.range.end - split.range.begin), ids));
    }
  }
  return {};
}

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::from_json(const nlohmann::json& json) {
  FACET_TRY_STATUS(check_tokenizer_file(json));
  const auto field = [&json](const char* key) { return json.value(key, nlohmann::json()); };
  if (!json.contains("model")) return Error(Code::kUnsupported, "tokenizer.json: no model");
  Bpe bpe = FACET_TRY(Bpe::from_json(json.at("model")));
  PreTokenizer pre_tokenizer = FACET_TRY(PreTokenizer::from_json(field("pre_tokenizer")));
  const bool nfc = FACET_TRY(read_normalizer(field("normalizer")));
  auto added = FACET_TRY(read_added_tokens(field("added_tokens"), bpe.vocabulary()));
  Ids prefix = FACET_TRY(read_template_prefix(field("post_processor")));

  std::vector<AddedToken> raw, normalized;
  for (const AddedToken& token : added) (token.normalized ? normalized : raw).push_back(token);
  for (AddedToken& token : normalized) token.content = searched_content(token, nfc);
  auto raw_matcher = FACET_TRY(AddedTokenMatcher::create(std::move(raw)));
  auto normalized_matcher = FACET_TRY(AddedTokenMatcher::create(std::move(normalized)));
  auto state = std::unique_ptr<State>(new State{
      std::move(bpe), std::move(pre_tokenizer), std::move(added), std::move(raw_matcher),
      std::move(normalized_matcher), nfc, std::move(prefix), {}, {}, 0, {}, {}});
  state->fill_tables();
  return Tokenizer(std::move(state));
}

Result<Tokenizer> Tokenizer::load(const std::filesystem::path& path) {
  const bool is_directory = std::filesystem::is_directory(path);
  const auto file = is_directory ? path / "tokenizer.json" : path;
  const nlohmann::json json = FACET_TRY(read_json_file(file.string()));
  Tokenizer tokenizer = FACET_TRY(from_json(json));
  if (is_directory) {
    FACET_TRY_STATUS(
        check_tokenizer_config(path / "tokenizer_config.json", tokenizer.state_->added_tokens));
  }
  return tokenizer;
}

Result<Ids> Tokenizer::encode(std::span<const TextSegment> segments) const {
  std::size_t num_bytes = 0;
  for (const TextSegment& segment : segments) num_bytes += segment.text.size();
  if (num_bytes > kMaxTextBytes) {
    return Error(Code::kTooLarge, "text of " + std::to_string(num_bytes) +
                                      " bytes; the tokenizer takes at most " +
                                      std::to_string(kMaxTextBytes));
  }
  const PromptText prompt = join_segments(segments);
  const std::lock_guard lock(state_->mutex);
  Ids ids;
  const auto splits = FACET_TRY(state_->raw_matcher.split(prompt.text, prompt.modes));
  for (const AddedTokenSplit& split : splits) {
    if (split.token_id >= 0) {
      ids.push_back(split.token_id);
    } else {
      FACET_TRY_STATUS(state_->encode_part(prompt, split.range, ids));
    }
  }
  return ids;
}

Result<Ids> Tokenizer::encode(std::string_view text) const {
  const TextSegment segment{text, true};
  return encode({&segment, 1});
}

std::int32_t Tokenizer::num_ids() const { return static_cast<std::int32_t>(state_->bytes.size()); }

std::string_view Tokenizer::token_bytes(std::int32_t id) const {
  if (id < 0 || id >= num_ids()) return {};
  return state_->bytes[static_cast<std::size_t>(id)];
}

bool Tokenizer::is_special(std::int32_t id) const {
  return id >= 0 && id < num_ids() && state_->special[static_cast<std::size_t>(id)];
}

std::size_t Tokenizer::max_token_bytes() const { return state_->max_token_bytes; }

std::int32_t Tokenizer::find(std::string_view token) const {
  for (const AddedToken& added : state_->added_tokens) {
    if (added.content == token) return added.id;
  }
  const auto at = state_->bpe.vocabulary().find(token);
  return at == state_->bpe.vocabulary().end() ? -1 : at->second;
}

const Ids& Tokenizer::template_prefix() const { return state_->template_prefix; }

Result<Ids> tokenize_text(const std::filesystem::path& model_dir, std::string_view text) {
  const Tokenizer tokenizer = FACET_TRY(Tokenizer::load(model_dir));
  return tokenizer.encode(text);
}

}  // namespace facet
