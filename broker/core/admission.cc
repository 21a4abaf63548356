#include "broker/core/admission.h"

#include <xxhash.h>

#include <algorithm>
#include <string>
#include <utility>

#include "broker/core/cursors.h"
#include "broker/core/leases.h"
#include "broker/core/request_check.h"
#include "broker/core/requests.h"
#include "broker/core/uploads.h"
#include "broker/core/users.h"
#include "broker/core/workers.h"

namespace facet::core {
namespace {

Refused refusal(Code code, std::string message, std::uint32_t retry_after_ms = 0) {
  return {{}, code, std::move(message), retry_after_ms};
}

// A known id: the same request attaches, another one is refused.
void attach(CoreState& s, const ClientGenerate& generate, Request& r,
            const XXH128_hash_t& body_hash) {
  const RequestId& id = generate.request.id;
  const Handling handling(s, r.record);
  if (r.body_hash_high != body_hash.high64 || r.body_hash_low != body_hash.low64) {
    refuse(s, generate.client,
           {id, Code::kInvalidArgument, "another request has this id already", 0});
    return;
  }
  const std::uint32_t held = s.ledger.num_tokens(r.record);
  if (generate.request.next_index > held) {
    refuse(s, generate.client,
           {id, Code::kInvalidArgument,
            "next is " + std::to_string(generate.request.next_index) + "; only " +
                std::to_string(held) + " tokens exist",
            0});
    return;
  }
  ++s.counters.attached;
  attach_cursor(s, generate.client, r, generate.request.next_index);
}

std::optional<Refused> check_room(CoreState& s, const ClientGenerate& generate) {
  if (s.draining) {
    return refusal(Code::kClosed,
                   "the server is draining: it finishes the " + std::to_string(s.num_unfinished) +
                       " requests that it has accepted and takes no new one",
                   kDrainRetryMs);
  }
  if (all_workers_disabled(s)) {
    return refusal(Code::kClosed, "no worker can serve: " + why_disabled(s), 5000);
  }
  if (generate.request.next_index > 0) {
    return refusal(Code::kNotFound, "next is " + std::to_string(generate.request.next_index) +
                                        " but no such request is known: its record has ended");
  }
  if (auto why = check_user_requests(s, generate.user)) return why;
  const std::uint32_t outstanding = client_of(s, generate.client).requests;
  if (outstanding >= s.limits.max_requests_per_client) {
    return exhausted(s, "this client has " + std::to_string(outstanding) +
                            " unfinished requests; the limit is " +
                            std::to_string(s.limits.max_requests_per_client));
  }
  return std::nullopt;
}

// Images that came by another connection count against the one that asks from now on.
std::optional<Refused> check_bytes_taken_over(CoreState& s, ClientToken client,
                                              const Upload& upload) {
  if (upload.owner == client) return std::nullopt;
  const std::uint64_t held = client_of(s, client).bytes;
  if (held + upload.bytes <= s.limits.max_ingest_bytes_per_client) return std::nullopt;
  return exhausted(s, "this client has " + std::to_string(held) +
                          " bytes of images in unfinished requests; with " +
                          std::to_string(upload.bytes) + " more it passes its limit of " +
                          std::to_string(s.limits.max_ingest_bytes_per_client));
}

// All images are here, and their pixels can fit.
std::optional<Refused> check_upload(CoreState& s, ClientToken client,
                                    const GenerateRequest& request) {
  const auto found = s.uploads.find(request.id);
  const std::size_t begun = found == s.uploads.end() ? 0 : found->second.images.size();
  if (begun > request.num_images) {
    return refusal(Code::kInvalidArgument, std::to_string(begun) + " images were put; images is " +
                                               std::to_string(request.num_images));
  }
  std::uint64_t pages = 0;
  for (std::uint32_t i = 0; i < request.num_images; ++i) {
    if (i >= begun || !found->second.images[i].is_complete()) {
      return missing_image(s, request.id, i);
    }
    const ProbedImage& probed = found->second.images[i].probed;
    pages += RingWriter::pages_for(std::uint64_t{3} * probed.width * probed.height);
  }
  const std::uint64_t most = s.ring.geometry().pixel_pages / 4;
  if (pages > most) {
    return refusal(Code::kTooLarge, "the images take " + std::to_string(pages * kRingPageBytes) +
                                        " bytes as pixels; one request may take " +
                                        std::to_string(most * kRingPageBytes));
  }
  if (begun == 0) return std::nullopt;
  return check_bytes_taken_over(s, client, found->second);
}

std::uint32_t text_capacity(const CoreState& s, std::uint32_t max_tokens) {
  std::uint64_t per_token = s.limits.max_text_bytes_per_token;
  if (s.facts && s.facts->max_token_text_bytes > 0) {
    per_token = std::min<std::uint64_t>(per_token, s.facts->max_token_text_bytes);
  }
  const std::uint64_t bytes = per_token * max_tokens + s.limits.text_reserve_extra;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(bytes, UINT32_MAX));
}

std::vector<LedgerImage> ledger_images(const CoreState& s, const RequestId& id) {
  std::vector<LedgerImage> images;
  const auto found = s.uploads.find(id);
  if (found == s.uploads.end()) return images;
  for (const UploadImage& from : found->second.images) {
    LedgerImage image;
    image.slot = *from.slot;
    image.format = from.probed.format;
    image.generation = s.ring.generation(*from.slot);
    image.bytes = from.total;
    image.width = from.probed.width;
    image.height = from.probed.height;
    image.content_hash_high = from.content_hash_high;
    image.content_hash_low = from.content_hash_low;
    images.push_back(image);
  }
  return images;
}

std::optional<Refused> accept(CoreState& s, ClientGenerate& generate,
                              const XXH128_hash_t& body_hash) {
  GenerateRequest& body = generate.request;
  Request r;
  r.id = body.id;
  r.images = ledger_images(s, r.id);
  r.accepted = s.now;
  r.deadline = s.now + Nanos{body.deadline_ms} * kMillisecond;
  RecordSpec spec;
  spec.id = r.id;
  spec.body = generate.body;
  spec.body_hash_high = r.body_hash_high = body_hash.high64;
  spec.body_hash_low = r.body_hash_low = body_hash.low64;
  spec.accepted = r.accepted;
  spec.deadline = r.deadline;
  spec.images = r.images;
  spec.max_tokens = body.sampling.max_tokens;
  spec.text_capacity = text_capacity(s, spec.max_tokens);
  spec.logprobs_per_token = body.sampling.logprobs_per_token();
  spec.user = generate.user;
  r.record_bytes = LedgerWriter::run_bytes(spec);
  if (auto why = check_user_ledger(s, generate.user, r.record_bytes)) return why;
  auto record = s.ledger.publish(spec);
  while (!record && record.error().code == Code::kExhausted && evict_finished(s)) {
    record = s.ledger.publish(spec);
  }
  if (!record) {
    const Error& error = record.error();
    return refusal(error.code, error.message,
                   error.code == Code::kExhausted ? retry_hint_ms(s) : 0);
  }
  r.record = *record;
  std::vector<std::uint32_t> slots;
  for (const LedgerImage& image : r.images) {
    slots.push_back(image.slot);
    r.owner_bytes += image.bytes;
  }
  take_upload(s, r.id);
  if (!slots.empty()) r.encoded = make_lease(s, std::move(slots));
  r.key = {take_round(s, generate.user, body.priority), body.priority, s.next_sequence++};
  r.child_faults.resize(r.images.size());
  r.owner = generate.client;
  r.user = generate.user;
  r.max_tokens = spec.max_tokens;
  r.logprobs_per_token = spec.logprobs_per_token;
  r.prompt_estimate = estimate_prompt(s, body, r.images);
  Client& owner = client_of(s, generate.client);
  ++owner.requests;
  owner.bytes += r.owner_bytes;
  Request& added = add_request(s, std::move(r));
  ++s.counters.accepted;
  start_timer(s, added, added.deadline);
  enqueue(s, added);
  attach_cursor(s, generate.client, added, 0);
  return std::nullopt;
}

}  // namespace

std::uint64_t estimate_prompt(const CoreState& s, const GenerateRequest& request,
                              std::span<const LedgerImage> images) {
  const ModelFacts* facts = s.facts ? &*s.facts : nullptr;
  std::uint64_t tokens = estimate_text_tokens(request);
  for (const LedgerImage& image : images) {
    tokens += estimate_image_tokens(image.width, image.height, facts);
  }
  return tokens;
}

void handle_generate(CoreState& s, ClientGenerate generate) {
  const RequestId id = generate.request.id;
  const XXH128_hash_t body_hash = XXH3_128bits(generate.body.data(), generate.body.size());
  std::optional<Refused> malformed;
  if (const auto& error = generate.malformed) malformed = refusal(error->code, error->message);
  if (Request* known = find_request(s, id)) {
    if (!malformed) return attach(s, generate, *known, body_hash);
    malformed->id = id;
    return refuse(s, generate.client, std::move(*malformed));  // the request goes on
  }
  std::optional<Refused> why = refused_try(s, id);
  if (!why) why = std::move(malformed);
  if (!why) why = check_room(s, generate);
  if (!why) {
    const Status checked = check_request(generate.request, s.limits, s.facts ? &*s.facts : nullptr);
    if (!checked) why = refusal(checked.error().code, checked.error().message);
  }
  if (!why) why = check_upload(s, generate.client, generate.request);
  if (!why) why = accept(s, generate, body_hash);
  if (!why) return;
  why->id = id;
  refuse_try(s, id, *why);
  refuse(s, generate.client, std::move(*why));
}

}  // namespace facet::core
