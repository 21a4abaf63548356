// Every bound of the broker's logic, with its default and reason. The service fills it from the
// configuration; tests and the simulator use small ones.
#pragma once

#include <cstdint>

#include "common/base/clock.h"
#include "common/config/dispatch_policy.h"

namespace facet {

struct CoreLimits {
  std::uint32_t num_workers = 1;  // worker indices are 0 .. num_workers - 1
  DispatchPolicy dispatch = DispatchPolicy::kLeastLoaded;
  std::uint32_t worker_lanes =
      UINT32_MAX;  // sequences that run at once; the rest of its credits wait
  std::uint32_t max_queued_requests = 1024;  // accepted and not yet dispatched
  // Of one user. A full queue turns away only who has an equal share of it, so that no user starves
  // another; a lower limit of its own is for those who want one. 0: none.
  std::uint32_t max_queued_per_user = 0;
  std::uint64_t max_ingest_bytes_per_user = UINT64_MAX;  // the service: a part of the ring
  // The same in pages of the ring, of which an image of one byte takes a whole one, and in requests
  // whose images have begun to arrive. The service: a part of all.
  std::uint64_t max_ingest_pages_per_user = UINT64_MAX;
  std::uint32_t max_uploads_per_user = UINT32_MAX;
  std::uint32_t max_requests_per_client = 512;
  std::uint64_t max_ingest_bytes_per_client = 64ull << 20;  // of uploads and unfinished requests
  std::uint32_t max_images = 16;                            // of one request
  std::uint64_t max_image_bytes = 32ull << 20;              // one encoded image
  std::int64_t max_image_pixels = 50'000'000;
  std::uint32_t max_image_side = 16384;
  std::uint32_t max_tokens_default = 256;
  std::uint32_t max_tokens_limit = 16384;
  std::uint32_t max_uploads = 4096;  // requests whose images have begun to arrive

  Nanos deadline_default = 600 * kSecond;  // also the longest that may be asked for
  Nanos upload_ttl = 30 * kSecond;         // chunks without a generate
  Nanos record_ttl = 60 * kSecond;         // a finished request can be asked for again this long
  // In a full ledger finished records that nobody reads make room, but not before a broker has run
  // for so long since their end was told: a client comes back after 3 s of silence. 4096 records
  // then carry 400 requests a second.
  Nanos record_ttl_when_full = 10 * kSecond;
  Nanos keepalive = kSecond;
  Nanos blocked_retry = 50 * kMillisecond;  // a client whose socket was full is tried again
  // A worker that served a former broker and does not say hello for so long is ended. It says it
  // between two steps, and the supervisor ends one that hangs in a step: this is the last resort.
  Nanos hello_timeout = 120 * kSecond;
  // A worker is told at the latest after so many steps that they are in the ledger.
  std::uint32_t steps_per_ack = 32;
  // A drain is over when every answer was told. It waits this long for a client that does not read,
  // and this long after a takeover for the clients of the former broker, who come after 3 s.
  Nanos drain_delivery = 5 * kSecond;
  Nanos drain_return = 6 * kSecond;
  Nanos restart_grace = 60 * kSecond;  // after a start: missing images may be our fault

  // Text bytes reserved in the ledger for each token: the model's longest token is rare, its
  // average is about four bytes.
  std::uint32_t max_text_bytes_per_token = 32;
  std::uint32_t text_reserve_extra = 4096;  // for a few long tokens in a short answer

  std::uint32_t max_tokens_bytes = 64 << 10;  // text and ids of one Tokens message
  std::uint32_t max_messages_per_pump = 64;   // to one client in one step, then others' turn
  std::uint32_t decode_jobs = 2;              // at the decoder at once
  // A job without an answer for so long: the decoder, which bounds its children, does not run.
  Nanos decode_deadline = 60 * kSecond;
  std::uint32_t decode_ahead = 4;             // requests decoded beyond the workers' free credits
  Nanos preempt_backoff = 10 * kMillisecond;  // doubles with each preemption of a request
  Nanos preempt_backoff_max = kSecond;
  Nanos retry_hint_min = 50 * kMillisecond;
  Nanos retry_hint_max = 10 * kSecond;
};

}  // namespace facet
