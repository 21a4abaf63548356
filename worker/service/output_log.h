// What the engine has said and no ledger is known to hold: the memory that lets a worker outlive a
// broker. Pure: no socket, no clock.
//
// Each sequence has three marks in its tokens: acknowledged <= sent <= produced. Tokens are kept
// from the first on. A new broker moves `sent` back to what its ledger lacks. An ended sequence is
// kept until its end is acknowledged.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/base/request_id.h"
#include "common/base/result.h"
#include "common/protocol/messages.h"

namespace facet {

class OutputLog {
 public:
  struct Key {
    RequestId id;
    std::uint32_t attempt = 0;
    auto operator<=>(const Key&) const = default;
  };

  // A dispatch was taken: the output begins at token `first`.
  void open(const Key& key, std::uint32_t first, bool has_images);
  void add(SequenceUpdate update);

  bool has_unsent() const { return !unsent_.empty(); }
  // The updates of the Step message with this number: what is unsent, at most `max_tokens` tokens.
  std::vector<SequenceUpdate> take_unsent(std::uint64_t step, std::size_t max_tokens);
  // Everything up to that message is in the ledger.
  void acknowledge(std::uint64_t step);

  // For a hello. From here on nothing is sent before resume().
  std::vector<HeldSequence> held();
  // The answer to it. Returns what the engine is to cancel; its end is all that is said of it.
  // kCorrupt: it asks for tokens that were acknowledged or never produced.
  Result<std::vector<Key>> resume(const Resume& answer);

  std::size_t num_tokens() const { return num_tokens_; }  // kept
  bool is_empty() const { return sequences_.empty(); }

 private:
  struct Mark {
    std::uint64_t step = 0;
    std::uint32_t end = 0;  // tokens before this index were in it or in an earlier one
  };
  struct Sequence {
    std::deque<std::int32_t> ids;       // from index `first` on
    std::deque<std::string> texts;      // same length
    std::deque<TokenLogprob> logprobs;  // as many of each token, none unless the request asks
    std::uint32_t first = 0;            // acknowledged: tokens before it are not kept
    std::uint32_t sent = 0;
    std::deque<Mark> marks;
    bool reads_images = false;
    bool is_unsent = false;    // in unsent_
    bool is_unwanted = false;  // nobody wants its tokens, only that it has ended
    bool was_held = false;     // running at the last hello
    std::optional<SequenceEnd> end;
    std::uint64_t end_step = 0;  // message with its end; 0: not sent
    std::ptrdiff_t logprobs_of(std::ptrdiff_t tokens) const {
      return ids.empty() ? 0 : tokens * std::ssize(logprobs) / std::ssize(ids);
    }
    std::uint32_t produced() const { return first + static_cast<std::uint32_t>(ids.size()); }
  };
  using Sequences = std::map<Key, Sequence>;

  void want_sent(const Key& key, Sequence& sequence);
  void drop_tokens(Sequence& sequence, std::uint32_t before);
  void drop_all_tokens(Sequence& sequence);

  Sequences sequences_;
  std::deque<Key> unsent_;  // in the order in which they had something to say
  std::size_t num_tokens_ = 0;
};

}  // namespace facet
