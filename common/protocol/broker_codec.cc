// Broker -> client.
#include "common/protocol/codec.h"
#include "common/protocol/envelope.h"
#include "common/protocol/limits.h"
#include "common/protocol/text_check.h"

namespace facet {
namespace {

using wire::MapReader;
using wire::Need;

Accepted read_accepted(MapReader& map) {
  Accepted accepted;
  map.id("id", accepted.id);
  map.uint("position", accepted.queue_position, Need::kOptional);
  map.uint("tokens", accepted.num_tokens, Need::kOptional);
  map.uint("epoch", accepted.epoch, Need::kOptional);
  if (map.any("eta_ms", Need::kOptional) != nullptr) {
    map.uint("eta_ms", accepted.eta_ms.emplace(), Need::kOptional);
  }
  return accepted;
}

// A code of a later version is an internal error to this one.
Code read_code(MapReader& map) {
  std::string_view name;
  map.name("code", name, Need::kRequired);
  return code_from_name(name).value_or(Code::kInternal);
}

Refused read_refused(MapReader& map) {
  Refused refused;
  // A refusal of a message whose id could not be read has none.
  if (map.any("id", Need::kOptional) != nullptr) map.id("id", refused.id);
  refused.code = read_code(map);
  map.text("message", refused.message, Need::kRequired, kMaxErrorBytes);
  map.uint("retry_after_ms", refused.retry_after_ms, Need::kOptional);
  return refused;
}

Tokens read_tokens(MapReader& map) {
  Tokens tokens;
  map.id("id", tokens.id);
  map.uint("index", tokens.index, Need::kRequired);
  map.int32s("ids", tokens.token_ids, kMaxMsgpackArray);
  map.text("text", tokens.text, Need::kRequired, kMaxMapBytes);
  map.logprobs("logprobs", tokens.logprobs);
  const std::size_t count = tokens.token_ids.size();
  if (!map.failed() && count != 0 && tokens.logprobs.size() % count != 0)
    map.fail(Code::kInvalidArgument, "logprobs", "are not as many for each of `ids`");
  return tokens;
}

void read_usage(MapReader map, Usage& usage) {
  map.uint("prompt_tokens", usage.prompt_tokens, Need::kOptional);
  map.uint("image_tokens", usage.image_tokens, Need::kOptional);
  map.uint("completion_tokens", usage.completion_tokens, Need::kOptional);
  map.uint("cached_tokens", usage.cached_tokens, Need::kOptional);
}

void read_timings(MapReader map, Timings& timings) {
  constexpr double kLongest = 1e15;
  map.number("dispatched_ms", timings.dispatched_ms, Need::kOptional, 0.0, kLongest);
  map.number("first_token_ms", timings.first_token_ms, Need::kOptional, 0.0, kLongest);
  map.number("total_ms", timings.total_ms, Need::kOptional, 0.0, kLongest);
}

Done read_done(MapReader& map) {
  Done done;
  map.id("id", done.id);
  std::string_view reason;
  map.name("finish_reason", reason, Need::kRequired);
  bool known = false;
  for (const auto candidate : {FinishReason::kStop, FinishReason::kLength, FinishReason::kCancelled,
                               FinishReason::kError}) {
    if (reason != finish_reason_name(candidate)) continue;
    done.reason = candidate;
    known = true;
  }
  if (!known)
    map.fail(Code::kInvalidArgument, "finish_reason", "unknown: " + printable_quote(reason));
  map.text("text", done.text, Need::kOptional, kMaxMapBytes);
  if (const auto* usage = map.map("usage", Need::kOptional)) {
    read_usage(MapReader(*usage, {&map.path(), "usage"}, map.error()), done.usage);
  }
  map.uint("attempts", done.attempts, Need::kOptional);
  if (const auto* timings = map.map("timings", Need::kOptional)) {
    read_timings(MapReader(*timings, {&map.path(), "timings"}, map.error()), done.timings);
  }
  if (done.reason == FinishReason::kError) {
    done.code = read_code(map);
    map.text("message", done.error, Need::kRequired, kMaxErrorBytes);
  }
  return done;
}

}  // namespace

Result<BrokerMessage> decode_broker_message(std::string_view bytes) {
  // A resumed stream may repeat a whole answer in one message.
  const auto handle = wire::parse(bytes, {kMaxWorkerMapBytes, kMaxWorkerItems});
  if (!handle) return wire::as_corrupt(handle.error());
  std::optional<Error> error;
  MapReader map(handle->get(), {}, error);
  const std::string_view type = wire::read_envelope(map);
  BrokerMessage message = Keepalive{};
  if (type == "accepted") {
    message = read_accepted(map);
  } else if (type == "refused") {
    message = read_refused(map);
  } else if (type == "tokens") {
    message = read_tokens(map);
  } else if (type == "done") {
    message = read_done(map);
  } else if (type == "status") {
    StatusReply status;
    map.text("json", status.json, Need::kRequired, kMaxMapBytes);
    message = std::move(status);
  } else if (type == "keepalive") {
    map.uint("epoch", std::get<Keepalive>(message).epoch, Need::kOptional);
  } else {
    wire::refuse_type(map, type);
  }
  if (error) return wire::as_corrupt(*error);
  return message;
}

std::string encode_message(const Accepted& accepted) {
  return wire::encode("accepted", accepted.eta_ms ? 5 : 4, [&](wire::MapWriter& map) {
    map.id(accepted.id);
    if (accepted.eta_ms) map.uint("eta_ms", *accepted.eta_ms);
    map.uint("position", accepted.queue_position);
    map.uint("tokens", accepted.num_tokens);
    map.uint("epoch", accepted.epoch);
  });
}

std::string encode_message(const Refused& refused) {
  const bool has_id = !refused.id.is_zero();
  return wire::encode("refused", has_id ? 4 : 3, [&](wire::MapWriter& map) {
    if (has_id) map.id(refused.id);
    map.text("code", code_name(refused.code));
    map.text("message", bounded_text(refused.message, kMaxErrorBytes));
    map.uint("retry_after_ms", refused.retry_after_ms);
  });
}

std::string encode_message(const Tokens& tokens) {
  return wire::encode("tokens", tokens.logprobs.empty() ? 4 : 5, [&](wire::MapWriter& map) {
    map.id(tokens.id);
    map.uint("index", tokens.index);
    map.ints("ids", tokens.token_ids);
    map.text("text", tokens.text);
    if (!tokens.logprobs.empty()) map.logprobs("logprobs", tokens.logprobs);
  });
}

std::string encode_message(const Done& done) {
  const bool failed = done.reason == FinishReason::kError;
  return wire::encode("done", failed ? 8 : 6, [&](wire::MapWriter& map) {
    map.id(done.id);
    map.text("finish_reason", finish_reason_name(done.reason));
    map.text("text", done.text);
    wire::MapWriter usage = map.map("usage", 4);
    usage.uint("prompt_tokens", done.usage.prompt_tokens);
    usage.uint("image_tokens", done.usage.image_tokens);
    usage.uint("completion_tokens", done.usage.completion_tokens);
    usage.uint("cached_tokens", done.usage.cached_tokens);
    map.uint("attempts", done.attempts);
    wire::MapWriter timings = map.map("timings", 3);
    timings.number("dispatched_ms", done.timings.dispatched_ms);
    timings.number("first_token_ms", done.timings.first_token_ms);
    timings.number("total_ms", done.timings.total_ms);
    if (!failed) return;
    map.text("code", code_name(done.code));
    map.text("message", bounded_text(done.error, kMaxErrorBytes));
  });
}

std::string encode_message(const Keepalive& keepalive) {
  return wire::encode("keepalive", 1,
                      [&](wire::MapWriter& map) { map.uint("epoch", keepalive.epoch); });
}

std::string encode_message(const StatusReply& status) {
  return wire::encode("status", 1, [&](wire::MapWriter& map) { map.text("json", status.json); });
}

}  // namespace facet
