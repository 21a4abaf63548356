// A byte-level BPE tokenizer read from a Hugging Face tokenizer.json (kinds of Qwen2 and Llama 3).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace facet {

// A stretch of prompt text. With parse_added_tokens off, added tokens typed in it stay text.
struct TextSegment {
  std::string_view text;
  bool parse_added_tokens = true;
};

inline constexpr std::size_t kMaxTextBytes = 16 << 20;  // of one encode(): four largest requests

// Tokens equal those of the `tokenizers` package for the same file with add_special_tokens=False.
// Anything in the file that is not understood is refused by name when loading.
class Tokenizer {
 public:
  // `path`: tokenizer.json, or a model directory with it.
  static Result<Tokenizer> load(const std::filesystem::path& path);
  static Result<Tokenizer> from_json(const nlohmann::json& json);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Tokens of the segments as one text: words run across segment borders, added tokens do not.
  // Invalid UTF-8 becomes U+FFFD as in Python's errors="replace". kTooLarge above kMaxTextBytes.
  // Safe from several threads; calls take turns (they share the cache of words).
  Result<std::vector<std::int32_t>> encode(std::span<const TextSegment> segments) const;
  Result<std::vector<std::int32_t>> encode(std::string_view text) const;

  // One past the largest token id.
  std::int32_t num_ids() const;
  // The bytes a token adds to decoded text; empty for ids without a token.
  std::string_view token_bytes(std::int32_t id) const;
  // True for tokens that decoding with skip_special_tokens leaves out.
  bool is_special(std::int32_t id) const;
  // Longest token_bytes() of all tokens.
  std::size_t max_token_bytes() const;
  // Id of a token by its text as it stands in the file (vocabulary or added), or -1.
  std::int32_t find(std::string_view token) const;
  // Tokens that a post-processor template puts before a text with add_special_tokens=True, such as
  // a begin-of-text token; encode() never adds them.
  const std::vector<std::int32_t>& template_prefix() const;

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace facet
