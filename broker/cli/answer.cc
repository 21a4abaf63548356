#include "broker/cli/answer.h"

#include <nlohmann/json.hpp>

#include "common/protocol/codec.h"

namespace facet {

void Answer::add(const Tokens& tokens) {
  text += tokens.text;
  token_ids.insert(token_ids.end(), tokens.token_ids.begin(), tokens.token_ids.end());
  logprobs.insert(logprobs.end(), tokens.logprobs.begin(), tokens.logprobs.end());
}

namespace {

// For each token {"token", "logprob", "top": [{"token", "logprob"}, ..]}.
nlohmann::ordered_json logprobs_json(const Answer& answer) {
  const auto item = [](const TokenLogprob& one) {
    return nlohmann::ordered_json{{"token", one.token}, {"logprob", one.logprob}};
  };
  auto all = nlohmann::ordered_json::array();
  const std::size_t width = answer.logprobs.size() / answer.token_ids.size();
  for (std::size_t i = 0; i < answer.logprobs.size(); i += width) {
    nlohmann::ordered_json& token = all.emplace_back(item(answer.logprobs[i]));
    token["top"] = nlohmann::ordered_json::array();
    for (std::size_t k = 1; k < width; ++k) token["top"].push_back(item(answer.logprobs[i + k]));
  }
  return all;
}

}  // namespace

void Answer::finish(const Done& end) {
  text += end.text;
  done = end;
  if (end.reason == FinishReason::kError) error.emplace(end.code, end.error);
}

void write_answer(nlohmann::ordered_json& json, const Answer& answer) {
  json["text"] = answer.text;
  json["token_ids"] = answer.token_ids;
  if (!answer.logprobs.empty()) json["logprobs"] = logprobs_json(answer);
  json["finish_reason"] =
      answer.error ? "error" : std::string(finish_reason_name(answer.done.reason));
  json["usage"] = {{"prompt_tokens", answer.done.usage.prompt_tokens},
                   {"image_tokens", answer.done.usage.image_tokens},
                   {"completion_tokens", answer.done.usage.completion_tokens},
                   {"cached_tokens", answer.done.usage.cached_tokens}};
  json["attempts"] = answer.done.attempts;
  json["timings"] = {{"dispatched_ms", answer.done.timings.dispatched_ms},
                     {"first_token_ms", answer.done.timings.first_token_ms},
                     {"total_ms", answer.done.timings.total_ms}};
  if (!answer.error) return;
  json["error"] = answer.error->message;
  json["code"] = std::string(code_name(answer.error->code));
}

std::string to_line(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace facet
