#include "worker/echo/echo_engine.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "worker/echo/echo_answer.h"

namespace facet {
namespace {

constexpr std::uint32_t kMaxModelLen = 1 << 17;  // 512 KiB of text, or 8 of the largest images
constexpr Nanos kTickEvery = kSecond / 4;        // well inside the shortest progress deadline

ModelFacts echo_facts() {
  ModelFacts facts;
  facts.name = "echo";
  facts.family = "echo";
  facts.max_model_len = kMaxModelLen;
  facts.max_images = 64;
  facts.max_token_text_bytes = kEchoMaxTokenTextBytes;
  facts.image_pixels_per_token = kEchoPixelsPerToken;
  facts.image_tokens_min = 1;
  facts.image_tokens_max = kEchoMaxImageTokens;
  return facts;
}

void sleep_for(Nanos time) {
  timespec span{.tv_sec = time / kSecond, .tv_nsec = time % kSecond};
  while (nanosleep(&span, &span) != 0 && errno == EINTR) {
  }
}

void end_with(SequenceUpdate& update, SequenceEnd::Kind kind, Code code = Code::kInternal,
              std::string message = {}) {
  update.ended = true;
  update.images_released = true;
  update.end.kind = kind;
  update.end.code = code;
  update.end.message = std::move(message);
}

}  // namespace

EchoEngine::EchoEngine(const EchoOptions& options, ProgressTick tick)
    : options_(options),
      tick_(std::move(tick)),
      facts_(echo_facts()),
      schedule_(options.step_time) {}

EchoEngine::~EchoEngine() {
  if (memory_ != nullptr) munmap(memory_, options_.memory_bytes);
}

Result<std::unique_ptr<EchoEngine>> EchoEngine::create(const EchoOptions& options,
                                                       ProgressTick tick) {
  std::unique_ptr<EchoEngine> engine(new EchoEngine(options, std::move(tick)));
  FACET_TRY_STATUS(engine->reserve_memory());
  return engine;
}

Status EchoEngine::reserve_memory() {
  if (options_.memory_bytes == 0) return {};
  void* memory = mmap(nullptr, options_.memory_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return errno_error("echo memory of " + std::to_string(options_.memory_bytes) + " bytes", errno);
  }
  memory_ = memory;
  constexpr std::size_t kSlice = 64 << 20;
  for (std::size_t at = 0; at < options_.memory_bytes; at += kSlice) {
    tick_(WorkerPhase::kLoad);
    std::memset(static_cast<char*>(memory_) + at, 1,
                std::min<std::size_t>(kSlice, options_.memory_bytes - at));
  }
  return {};
}

Status EchoEngine::add(SequenceSpec spec) {
  if (sequences_.size() >= options_.capacity) {
    return Error(Code::kExhausted, "echo holds " + std::to_string(options_.capacity) +
                                       " sequences, its capacity");
  }
  Sequence sequence;
  std::uint64_t image_tokens = 0;
  for (const ImageView& image : spec.images) {
    image_tokens += echo_image_tokens(image.width, image.height);
  }
  const std::uint64_t text_tokens = echo_text_tokens(spec.request);
  const std::uint64_t needs = text_tokens + image_tokens + spec.request.sampling.max_tokens;
  if (needs > kMaxModelLen) {
    return Error(Code::kTooLarge, "prompt and answer need " + std::to_string(needs) +
                                      " tokens, the model has " + std::to_string(kMaxModelLen));
  }
  for (std::int32_t token : spec.committed) {
    if (token < 0 || token >= kEchoVocabulary) {
      return Error(Code::kInvalidArgument, "committed token " + std::to_string(token) +
                                               " is not in the vocabulary");
    }
  }
  sequence.prompt_digest = echo_prompt_digest(spec.request);
  sequence.drifts = has_drift_mark(spec.request);
  if (sequence.drifts) {
    sequence.prompt_digest = echo_drift_digest(sequence.prompt_digest, spec.attempt);
  }
  sequence.text_tokens = static_cast<std::uint32_t>(text_tokens);
  sequence.image_tokens = static_cast<std::uint32_t>(image_tokens);
  sequence.tokens = spec.committed;
  sequence.hook = find_echo_hook(spec.request);
  for (const ImageView& image : spec.images) {
    if (!sequence.hook) sequence.hook = find_echo_hook(image);
  }
  sequence.spec = std::move(spec);
  sequences_.push_back(std::move(sequence));
  return {};
}

void EchoEngine::cancel(const RequestId& id, std::uint32_t attempt) {
  for (Sequence& sequence : sequences_) {
    if (sequence.spec.id == id && sequence.spec.attempt == attempt) sequence.cancelled = true;
  }
}

void EchoEngine::sleep_until(Nanos due) {
  for (Nanos left = due - monotonic_now(); left > 0; left = due - monotonic_now()) {
    sleep_for(std::min(left, kTickEvery));
    tick_(WorkerPhase::kDecode);
  }
}

Result<std::vector<SequenceUpdate>> EchoEngine::step() {
  std::vector<SequenceUpdate> updates;
  tick_(WorkerPhase::kDecode);
  const bool any_running = std::any_of(sequences_.begin(), sequences_.end(),
                                       [](const Sequence& s) { return !s.cancelled; });
  if (any_running) sleep_until(schedule_.next(monotonic_now()));

  std::uint32_t lanes = 0;
  for (auto it = sequences_.begin(); it != sequences_.end();) {
    const bool runs = !it->cancelled && lanes < options_.max_lanes;
    if (!runs && !it->cancelled) {
      ++it;
      continue;
    }
    SequenceUpdate update;
    update.id = it->spec.id;
    update.attempt = it->spec.attempt;
    update.index = static_cast<std::uint32_t>(it->tokens.size());
    if (runs) {
      ++lanes;
      FACET_TRY_STATUS(advance(*it, update));
    } else {
      end_with(update, SequenceEnd::Kind::kCancelled);
    }
    update.end.prompt_tokens = it->text_tokens + it->image_tokens;
    update.end.image_tokens = it->image_tokens;
    const bool ended = update.ended;
    updates.push_back(std::move(update));
    it = ended ? sequences_.erase(it) : it + 1;
  }
  if (sequences_.empty()) schedule_.rest();
  return updates;
}

Status EchoEngine::advance(Sequence& sequence, SequenceUpdate& update) {
  const auto& hook = sequence.hook;
  if (hook && hook->position == update.index && sequence.spec.attempt <= hook->attempts) {
    act_on_process(hook->kind);
    if (hook->kind == EchoHookKind::kEngine) {
      return Error(Code::kInternal, "echo was asked to fail as a whole");
    }
    if (hook->kind == EchoHookKind::kFail) {
      end_with(update, SequenceEnd::Kind::kError, Code::kInternal, "echo was asked to fail");
      return {};
    }
    if (hook->kind == EchoHookKind::kPreempt) {
      end_with(update, SequenceEnd::Kind::kPreempted, Code::kExhausted,
               "echo was asked to hand back");
      return {};
    }
  }
  make_token(sequence, update);
  return {};
}

void EchoEngine::make_token(Sequence& sequence, SequenceUpdate& update) {
  const SamplingParams& sampling = sequence.spec.request.sampling;
  std::string held = sequence.tokens.empty() ? "" : echo_text(sequence.tokens.back()).held;
  const std::string signature = sequence.drifts ? "#" + std::to_string(update.attempt) : "";
  if (update.index >= sampling.max_tokens) {
    end_with(update, SequenceEnd::Kind::kLength);
    update.end.text = held + signature;
    return;
  }
  const std::uint64_t pixels = echo_pixel_digest(sequence.spec.images);
  for (std::size_t i = 0; i < sequence.spec.images.size(); ++i) {
    if (!sequence.spec.images[i].is_current()) {
      end_with(update, SequenceEnd::Kind::kError, Code::kCorrupt,
               "image " + std::to_string(i) + " was replaced in the ring while it was read");
      return;
    }
  }
  const EchoStep next = echo_step(sequence.prompt_digest, pixels, sequence.tokens);
  if (next.stop && !sampling.ignore_eos && update.index >= sampling.min_tokens) {
    end_with(update, SequenceEnd::Kind::kStop);
    update.end.text = held + signature;
    return;
  }
  EchoText text = echo_text(next.token);
  sequence.tokens.push_back(next.token);
  update.token_ids.push_back(next.token);
  update.token_texts.push_back(held + text.now);
  if (sampling.logprobs) update.logprobs = echo_logprobs(next.token, *sampling.logprobs);
  if (update.index + 1 == sampling.max_tokens) {
    end_with(update, SequenceEnd::Kind::kLength);
    update.end.text = text.held + signature;
  }
}

Status EchoEngine::check_conservation() const {
  if (sequences_.empty()) return {};
  return Error(Code::kInternal, std::to_string(sequences_.size()) + " sequences are still held");
}

}  // namespace facet
