// Broker to worker, and worker to broker.
#include "common/base/check.h"
#include "common/protocol/limits.h"
#include "common/protocol/text_check.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/there_and_back.h"
#include "tests/unit/protocol/samples.h"

namespace facet::fuzz {
namespace {

constexpr std::string_view kPlaces[] = {
    "message", "v:",      "type:",     "id:",     "attempt:", "request",  "images",  "committed",
    "worker:", "credits", "pid:",      "model",   "incarnat", "held",     "step:",   "running:",
    "kv_",     "updates", "sequences", "settled", "idle_gap", "max_toke", "deadline"};

void check_step(const Step& step) {
  for (const SequenceUpdate& update : step.updates) {
    FACET_CHECK(update.token_ids.size() == update.token_texts.size() && !update.id.is_zero());
    for (const std::string& text : update.token_texts) FACET_CHECK(is_utf8(text));
    FACET_CHECK(is_utf8(update.end.text) && is_utf8(update.end.message));
  }
}

template <class Message, class Decode>
bool check(std::string_view input, Decode decode) {
  const Result<Message> message = decode(input);
  if (!message) {
    FACET_CHECK(message.error().code == Code::kCorrupt);
    check_refusal(message.error(), kMaxErrorBytes, kPlaces);
    return false;
  }
  if constexpr (std::is_same_v<Message, WorkerMessage>) {
    if (const auto* step = std::get_if<Step>(&*message)) check_step(*step);
  } else if (const auto* dispatch = std::get_if<Dispatch>(&*message)) {
    FACET_CHECK(dispatch->images.size() == dispatch->request.num_images);
  }
  check_there_and_back(*message, decode);
  return true;
}

}  // namespace

std::vector<std::string> seeds() {
  return {encode_message(samples::dispatch()), encode_message(CancelSequence{samples::id(), 1}),
          encode_message(Drain{}), encode_message(samples::hello()),
          encode_message(samples::step())};
}

void run_one(std::string_view input) {
  const bool is_command = check<WorkerCommand>(input, decode_worker_command);
  const bool is_report = check<WorkerMessage>(input, decode_worker_message);
  FACET_CHECK_MSG(!is_command || !is_report, "one message, two meanings");
}

}  // namespace facet::fuzz
