#include "broker/core/images.h"

#include <algorithm>
#include <string>
#include <utility>

#include "broker/core/assignments.h"
#include "broker/core/leases.h"
#include "broker/core/requests.h"
#include "broker/core/rules.h"
#include "common/base/check.h"
#include "common/base/crash_point.h"

namespace facet::core {
namespace {

constexpr std::uint32_t kMostChildFaults = 2;  // of one image: the first may be bad luck

std::uint64_t rgb_bytes(const LedgerImage& image) {
  return std::uint64_t{3} * image.width * image.height;
}

// All runs or none.
bool reserve_for(CoreState& s, Request& r) {
  std::vector<std::uint32_t> slots;
  for (const LedgerImage& image : r.images) {
    const auto slot =
        s.ring.reserve(RingArena::kPixel, r.id, rgb_bytes(image), image.width, image.height);
    if (!slot) {
      for (std::uint32_t taken : slots) s.ring.free(taken);  // nobody has seen them
      return false;
    }
    slots.push_back(*slot);
  }
  r.pixels = make_lease(s, std::move(slots));
  r.images_undecoded = static_cast<std::uint32_t>(r.images.size());
  for (std::uint32_t i = 0; i < r.images.size(); ++i) s.decode_queue.push_back({r.id, i, r.pixels});
  set_phase(s, r, Phase::kDecoding);
  return true;
}

// What Rule::kOldestWaiterFirst forbids: the next waiter whose pixels happen to fit.
bool overtake(CoreState& s) {
  for (const auto& [key, id] : s.waiting[0]) {
    if (reserve_for(s, *find_request(s, id))) return true;
  }
  return false;
}

// The oldest request that may ask for pixels now; a suspect asks when it is the next to run.
Request* next_waiter(CoreState& s) {
  const bool ordinary =
      !s.waiting[0].empty() && s.num_holding[0] < free_places(s) + s.limits.decode_ahead;
  const bool suspect = !s.waiting[1].empty() && s.num_holding[1] == 0;
  if (!ordinary && !suspect) return nullptr;
  const bool take_suspect =
      suspect && (!ordinary || s.waiting[1].begin()->first < s.waiting[0].begin()->first);
  return find_request(s, s.waiting[take_suspect ? 1 : 0].begin()->second);
}

// Still wanted: the request waits for exactly these pixels.
Request* wanting(CoreState& s, const DecodeTask& task) {
  Request* r = find_request(s, task.id);
  return r != nullptr && r->phase == Phase::kDecoding && r->pixels == task.pixels ? r : nullptr;
}

void send_job(CoreState& s, const DecodeTask& task, const Request& r) {
  const LedgerImage& image = r.images[task.image];
  const std::uint32_t pixel_slot = s.leases.at(r.pixels).slots[task.image];
  DecodeJob job;
  job.job = s.next_job++;
  job.encoded_offset = s.ring.object_offset(image.slot);
  job.encoded_bytes = image.bytes;
  job.pixels_offset = s.ring.object_offset(pixel_slot);
  job.pixels_bytes = rgb_bytes(image);
  job.width = image.width;
  job.height = image.height;
  job.format = image.format;
  hold_lease(s, r.encoded);
  hold_lease(s, r.pixels);
  s.decode_jobs.emplace(job.job, RunningDecode{task, r.encoded, s.now + s.limits.decode_deadline});
  s.out.push_back(SendDecodeJob{job});
}

void image_decoded(CoreState& s, const DecodeTask& task, Request& r) {
  s.ring.publish(s.leases.at(r.pixels).slots[task.image]);
  ++s.counters.images_decoded;
  FACET_CHECK(r.images_undecoded > 0);
  if (--r.images_undecoded == 0) set_phase(s, r, Phase::kReady);
}

std::string text_of(const DecodeReply& reply) {
  const auto* end = std::find(std::begin(reply.message), std::end(reply.message), '\0');
  return {std::begin(reply.message), end};
}

}  // namespace

void reserve_pixels(CoreState& s) {
  while (Request* r = next_waiter(s)) {
    if (reserve_for(s, *r)) continue;
    if (rule_holds(Rule::kOldestWaiterFirst)) return;
    if (!overtake(s)) return;
  }
}

void decoder_up(CoreState& s) {
  s.decoder_up = true;
  s.decoder_condemned = false;
}

void run_decode_timer(CoreState& s) {
  if (s.decode_jobs.empty() || s.decoder_condemned) return;
  if (s.now < s.decode_jobs.begin()->second.overdue) return;
  s.decoder_condemned = true;
  log(s, LogLine::Level::kError, "the decoder has not answered in time and is ended");
  s.out.push_back(KillDecoder{});
}

void decoder_reaped(CoreState& s) {
  FACET_CRASH_POINT("decode.lost");
  s.decoder_up = false;
  // In the order of their numbers, to the front: they were the oldest.
  for (auto job = s.decode_jobs.rbegin(); job != s.decode_jobs.rend(); ++job) {
    if (wanting(s, job->second.task) != nullptr) {
      s.decode_queue.push_front(job->second.task);
      ++s.counters.decode_retries;
    }
  }
  for (const auto& [id, job] : std::exchange(s.decode_jobs, {})) {
    unhold_lease(s, job.task.pixels);
    unhold_lease(s, job.encoded);
  }
  FACET_CRASH_POINT("decode.requeued");
}

void handle_decode_reply(CoreState& s, const DecodeReply& reply) {
  auto found = s.decode_jobs.find(reply.job);
  if (!rule_holds(Rule::kDecodeReplyFence) && found == s.decode_jobs.end()) {
    found = s.decode_jobs.begin();
  }
  if (found == s.decode_jobs.end()) {
    ++s.counters.stale_dropped;
    return;
  }
  const RunningDecode job = found->second;
  s.decode_jobs.erase(found);
  Request* r = wanting(s, job.task);
  if (r != nullptr) {
    const Handling handling(s, r->record);
    const std::uint32_t index = job.task.image;
    const std::string name = "image " + std::to_string(index);
    switch (reply.outcome) {
      case DecodeOutcome::kOk:
        image_decoded(s, job.task, *r);
        break;
      case DecodeOutcome::kBadImage:
        fail(s, *r, Code::kInvalidArgument, name + ": " + text_of(reply));
        break;
      case DecodeOutcome::kChildKilled:
        ++s.counters.decode_retries;
        s.decode_queue.push_front(job.task);
        break;
      case DecodeOutcome::kChildFault:
      default:
        if (++r->child_faults[index] >= kMostChildFaults) {
          fail(s, *r, Code::kInvalidArgument,
               name + " ended the decoder " + std::to_string(kMostChildFaults) +
                   " times: " + text_of(reply));
        } else {
          ++s.counters.decode_retries;
          s.decode_queue.push_front(job.task);
        }
    }
  }
  unhold_lease(s, job.task.pixels);
  unhold_lease(s, job.encoded);
}

void pump_decoder(CoreState& s) {
  while (s.decoder_up && !s.decode_queue.empty() && s.decode_jobs.size() < s.limits.decode_jobs) {
    const DecodeTask task = s.decode_queue.front();
    s.decode_queue.pop_front();
    if (const Request* r = wanting(s, task)) send_job(s, task, *r);
  }
}

void release_pixels(CoreState& s, Request& r) {
  retire_lease(s, r.pixels);
}

}  // namespace facet::core
