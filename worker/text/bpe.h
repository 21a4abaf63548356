// Byte-pair encoding of one word, with ranks as in tokenizer.json.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/base/result.h"

namespace facet {

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const {
    return std::hash<std::string_view>{}(text);
  }
};

template <class T>
using StringMap = std::unordered_map<std::string, T, StringHash, std::equal_to<>>;

// The BPE model of a byte-level tokenizer. Immutable.
class Bpe {
 public:
  // Reads the "model" object. Merges may be "a b" strings or ["a", "b"] pairs; a pair given twice
  // has its last rank. Refused by name: dropout, byte_fallback, fuse_unk, subword prefix or suffix,
  // an unk_token unless every byte has a token, merges of tokens that do not exist.
  static Result<Bpe> from_json(const nlohmann::json& json);

  // Appends the tokens of a word given as plain bytes. Bytes without a token are left out (as the
  // reference does without an unk_token). Time n log n in the word's length.
  void encode(std::string_view word, std::vector<std::int32_t>& ids) const;

  // By the token's text in the byte-level alphabet.
  const StringMap<std::int32_t>& vocabulary() const { return vocabulary_; }

 private:
  struct Merge {
    std::uint32_t rank;
    std::int32_t merged_id;
  };

  Status read_vocabulary(const nlohmann::json& json);
  Status read_merges(const nlohmann::json& json);
  Status read_unk_token(const nlohmann::json& json);
  const Merge* find_merge(std::int32_t left, std::int32_t right) const;
  void merge_all(std::vector<std::int32_t>& ids, std::size_t first) const;

  StringMap<std::int32_t> vocabulary_;
  std::array<std::int32_t, 256> byte_ids_{};                // -1: the byte has no token
  std::unordered_map<std::uint64_t, Merge> merges_;  // by left id and right id
  bool ignore_merges_ = false;  // a word that is a token is that token, whatever the merges say
};

}  // namespace facet
