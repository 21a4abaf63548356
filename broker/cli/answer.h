// One answer as it is put together from events, and its JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "common/client/client.h"

namespace facet {

struct Answer {
  std::string text;
  std::vector<std::int32_t> token_ids;
  std::vector<TokenLogprob> logprobs;  // as in Tokens
  Done done;                           // its text is in `text` already
  std::optional<Error> error;          // failed or refused for good

  void add(const Tokens& tokens);
  void finish(const Done& end);
};

// Adds text, token_ids, finish_reason, usage, attempts, timings to `json`; where they were asked
// for also `logprobs`; with an error also `error` (its message) and `code`.
void write_answer(nlohmann::ordered_json& json, const Answer& answer);

// A single line; what is not UTF-8 is replaced.
std::string to_line(const nlohmann::ordered_json& json);

}  // namespace facet
