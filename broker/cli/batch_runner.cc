#include "broker/cli/batch_runner.h"

#include <algorithm>

#include "broker/cli/stop_signal.h"

namespace facet {
namespace {

constexpr Nanos kPollTime = 100 * kMillisecond;
constexpr Nanos kFillTime = 50 * kMillisecond;  // of reading files, then answers get their turn
constexpr Nanos kSyncPeriod = 5 * kSecond;
constexpr Nanos kFactsPeriod = 5 * kSecond;  // workers come and go
constexpr std::size_t kMinInFlight = 4;
constexpr std::size_t kMaxInFlight = 256;  // below the daemon's limit for one client
constexpr int kMaxTries = 3;               // of a request that ended without its own fault

}  // namespace

BatchRunner::BatchRunner(DaemonSession& session, const PromptOptions& options,
                         const ServerFacts& facts, RowFormat format, const BatchLimits& limits,
                         ResultFile& file, Progress& progress)
    : session_(session),
      options_(options),
      model_(facts.model),
      format_(format),
      limits_(limits),
      file_(file),
      progress_(progress),
      capacity_(facts.capacity),
      last_sync_(monotonic_now()),
      last_facts_(last_sync_) {}

BatchRunner::End BatchRunner::run(const BatchItems& items) {
  items_ = &items.items;
  past_.emplace(file_.past(), items.items);
  counts_.total = items.items.size();
  while (!stop_error_) {
    const Nanos now = monotonic_now();
    if (stop_level() == StopLevel::kQuit) {
      is_quitting_ = true;
      break;
    }
    if (stop_level() == StopLevel::kFinish && !is_finishing_) {
      is_finishing_ = true;
      progress_.message("facet: finishing " + std::to_string(asked_.size()) +
                        " answers under way; Ctrl-C again to leave them");
    }
    if (!is_finishing_) fill(now);
    const bool is_all_asked = next_item_ == items_->size() && again_.empty();
    if (asked_.empty() && (is_finishing_ || is_all_asked)) break;
    // Files are still to be read or hashed: only look, do not wait.
    const bool may_wait = is_finishing_ || is_all_asked || !has_room();
    for (const ClientEvent& event : session_.client().poll(may_wait ? kPollTime : 0)) handle(event);
    keep_house(now);
  }
  for (const auto& entry : asked_) session_.client().cancel(entry.first);
  if (!asked_.empty()) session_.client().poll(0);  // the cancels go out
  if (const Status synced = file_.sync(); !synced && !stop_error_) stop(synced.error());
  if (stop_error_) return End::kStopped;
  return is_quitting_ || is_finishing_ ? End::kInterrupted : End::kDone;
}

bool BatchRunner::has_room() const {
  const std::size_t most =
      limits_.in_flight != 0
          ? limits_.in_flight
          : std::clamp<std::size_t>(2 * std::size_t{capacity_}, kMinInFlight, kMaxInFlight);
  return asked_.empty() || (asked_.size() < most && bytes_in_flight_ < limits_.in_flight_bytes);
}

void BatchRunner::fill(Nanos now) {
  while (has_room() && !stop_error_ && stop_level() == StopLevel::kNone &&
         monotonic_now() - now < kFillTime) {
    if (!again_.empty()) {
      const Again next = again_.front();
      again_.pop_front();
      ask(*next.item, next.tries);
    } else if (next_item_ < items_->size()) {
      ask((*items_)[next_item_++], 0);
    } else {
      return;
    }
  }
}

void BatchRunner::ask(const BatchItem& item, int tries) {
  Asked asked{&item, {}, 0, tries + 1, {}};
  GenerateRequest request =
      make_request(options_, item.prompt, item.paths.size(), Priority::kBatch);
  asked.key.settings = settings_hash(request, model_);
  std::vector<std::shared_ptr<const std::string>> contents;
  for (const std::string& path : item.paths) {
    auto bytes = read_image(path, item.follow_links);
    if (!bytes) {
      asked.key.content = "unreadable";
      if (tries == 0) {
        const auto found = past_->take(item, asked.key);
        if (found != PastAnswers::Found::kNo) return note_past(item, found);
      }
      return record_failure(item, asked.key,
                            Error(bytes.error().code, path + ": " + bytes.error().message));
    }
    asked.bytes += (*bytes)->size();
    contents.push_back(*std::move(bytes));
  }
  asked.key.content = content_hash(contents);
  if (tries == 0) {
    const auto found = past_->take(item, asked.key);
    if (found != PastAnswers::Found::kNo) return note_past(item, found);
  }
  std::vector<ImageSource> images;
  for (auto& bytes : contents) images.push_back(ImageSource{"", std::move(bytes)});
  const auto id = session_.client().submit(std::move(request), std::move(images));
  if (!id) return record_failure(item, asked.key, id.error());
  bytes_in_flight_ += asked.bytes;
  asked_.emplace(*id, std::move(asked));
}

void BatchRunner::note_past(const BatchItem& item, PastAnswers::Found found) {
  if (found == PastAnswers::Found::kAnswered) {
    ++counts_.skipped;
    return;
  }
  ++counts_.skipped_failed;
  failures_.push_back(item.image + ": failed in an earlier run (--retry-failed asks again)");
}

void BatchRunner::record_failure(const BatchItem& item, const RowKey& key, const Error& error) {
  Asked asked{&item, key, 0, 0, {}};
  asked.answer.error.emplace(error);
  write(asked);
}

void BatchRunner::handle(const ClientEvent& event) {
  if (const auto* tokens = std::get_if<Tokens>(&event)) {
    const auto found = asked_.find(tokens->id);
    if (found != asked_.end()) found->second.answer.add(*tokens);
  } else if (const auto* done = std::get_if<Done>(&event)) {
    const auto found = asked_.find(done->id);
    if (found == asked_.end()) return;
    if (done->reason == FinishReason::kError && done->code == Code::kClosed) {
      return failed(done->id, Error(done->code, done->error));
    }
    found->second.answer.finish(*done);
    if (done->reason == FinishReason::kCancelled) {
      found->second.answer.error.emplace(Code::kCancelled, "was cancelled");
    }
    bytes_in_flight_ -= found->second.bytes;
    write(found->second);
    asked_.erase(found);
  } else if (const auto* failure = std::get_if<Failed>(&event)) {
    failed(failure->id, failure->error);
  }
}

void BatchRunner::failed(const RequestId& id, const Error& error) {
  const auto found = asked_.find(id);
  if (found == asked_.end()) return;
  Asked asked = std::move(found->second);
  asked_.erase(found);
  bytes_in_flight_ -= asked.bytes;
  // The daemon is going or gone: no verdict about the image, the next run asks again.
  if (error.code == Code::kClosed) return stop(error);
  const bool is_daemons_fault = error.code == Code::kExhausted || error.code == Code::kNotFound;
  if (is_daemons_fault && asked.tries < kMaxTries) {
    again_.push_back({asked.item, asked.tries});
    return;
  }
  asked.answer = Answer{};
  asked.answer.error.emplace(error);
  write(asked);
}

void BatchRunner::write(const Asked& asked) {
  const Status written =
      file_.append(format_row({asked.item, asked.key, model_, &asked.answer}, format_));
  if (!written) return stop(written.error());  // not counted: the next run asks again
  const auto& error = asked.answer.error;
  if (error) failures_.push_back(asked.item->image + ": " + error->message);
  ++(error ? counts_.failed : counts_.answered);
  counts_.tokens += asked.answer.token_ids.size();
}

void BatchRunner::keep_house(Nanos now) {
  counts_.in_flight = asked_.size();
  progress_.update(counts_, now);
  if (const Status alive = session_.check(); !alive) stop(alive.error());
  if (now - last_sync_ > kSyncPeriod) {
    last_sync_ = now;
    if (const Status synced = file_.sync(); !synced) stop(synced.error());
  }
  if (limits_.in_flight == 0 && now - last_facts_ > kFactsPeriod) {
    last_facts_ = now;
    if (const auto facts = session_.facts(); facts && facts->capacity > 0) {
      capacity_ = facts->capacity;
    }
  }
}

void BatchRunner::stop(Error error) {
  if (!stop_error_) stop_error_.emplace(std::move(error));
}

}  // namespace facet
