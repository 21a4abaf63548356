// What a client is told: the broker's messages as the client library reads them.
#include "common/base/check.h"
#include "common/protocol/limits.h"
#include "common/protocol/put_fd.h"
#include "common/protocol/text_check.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/there_and_back.h"
#include "tests/unit/protocol/samples.h"

namespace facet::fuzz {
namespace {

constexpr std::string_view kPlaces[] = {
    "message", "v:",   "type:",    "id:",   "position:", "tokens:", "epoch:", "code:",  "retry_",
    "index",   "ids:", "attempts", "text:", "usage",     "timings", "json:",  "finish_"};

void check_message(const BrokerMessage& message) {
  if (const auto* refused = std::get_if<Refused>(&message)) {
    FACET_CHECK(refused->message.size() <= kMaxErrorBytes && is_utf8(refused->message));
  } else if (const auto* tokens = std::get_if<Tokens>(&message)) {
    FACET_CHECK(!tokens->id.is_zero() && tokens->token_ids.size() <= kMaxMsgpackArray);
    FACET_CHECK(is_utf8(tokens->text));
  } else if (const auto* done = std::get_if<Done>(&message)) {
    FACET_CHECK(!done->id.is_zero() && is_utf8(done->text));
    FACET_CHECK(done->timings.total_ms >= 0.0);
  } else if (const auto* status = std::get_if<StatusReply>(&message)) {
    FACET_CHECK(is_utf8(status->json));
  }
}

}  // namespace

std::vector<std::string> seeds() {
  return {encode_message(Accepted{samples::id(), 1, 2, 3}),
          encode_message(Refused{samples::id(), Code::kClosed, "bye", 5}),
          encode_message(Refused{{}, Code::kTooLarge, "that is too much", 0}),
          encode_message(Tokens{samples::id(), 3, {1, 2, 3}, "abc"}),
          encode_message(samples::done()),
          encode_message(Keepalive{7}),
          encode_message(PutFd{samples::id(), 3, 1 << 20}),
          encode_message(Stored{samples::id(), 3}),
          encode_message(Taken{samples::id(), 3}),
          encode_message(StatusReply{"{}"})};
}

// Of the socket for descriptors, both directions.
void run_put_fd(std::string_view input) {
  if (const auto put = decode_put_fd(input)) {
    FACET_CHECK(!put->id.is_zero() && put->image < kMaxImages && put->total_bytes >= 1);
    FACET_CHECK(put->total_bytes <= kMaxImageBytes);
  } else {
    FACET_CHECK(put.error().message.size() <= kMaxErrorBytes);
  }
  const auto answer = decode_put_fd_answer(input);
  if (!answer) {
    FACET_CHECK(answer.error().code == Code::kCorrupt);
  } else if (const auto* stored = std::get_if<Stored>(&*answer)) {
    FACET_CHECK(!stored->id.is_zero() && stored->image < kMaxImages);
  }
}

void run_one(std::string_view input) {
  run_put_fd(input);
  const auto message = decode_broker_message(input);
  if (!message) {
    FACET_CHECK(message.error().code == Code::kCorrupt);
    return check_refusal(message.error(), kMaxErrorBytes, kPlaces);
  }
  check_message(*message);
  check_there_and_back(*message, decode_broker_message);
}

}  // namespace facet::fuzz
