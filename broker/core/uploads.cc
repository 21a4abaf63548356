#include "broker/core/uploads.h"

#include <xxhash.h>

#include <cstring>
#include <string>
#include <utility>

#include "broker/core/cursors.h"
#include "broker/core/requests.h"
#include "broker/core/rules.h"
#include "broker/core/users.h"
#include "common/base/crash_point.h"
#include "common/protocol/limits.h"

namespace facet::core {
namespace {

void touch(CoreState& s, const RequestId& id, Upload& upload) {
  s.upload_timers.erase({upload.expires, id});
  upload.expires = s.now + s.limits.upload_ttl;
  s.upload_timers.emplace(upload.expires, id);
}

void release_image(CoreState& s, Upload& upload, UploadImage& image) {
  if (!image.slot) return;
  s.ring.free(*image.slot);  // no process but this one has seen it
  upload.bytes -= image.total;
  User& user = s.users.at(upload.user);
  user.bytes -= image.total;
  user.pages -= RingWriter::pages_for(image.total);
  const auto owner = s.clients.find(upload.owner);
  if (owner != s.clients.end()) owner->second.bytes -= image.total;
  image = {};
}

void release_images(CoreState& s, Upload& upload) {
  for (UploadImage& image : upload.images) release_image(s, upload, image);
  upload.images.clear();
}

// Refuses the whole try: told once, what is still under way of it is dropped.
void refuse_upload(CoreState& s, ClientToken client, const RequestId& id, Upload& upload,
                   Refused why) {
  release_images(s, upload);
  why.id = id;
  upload.refusal = why;
  refuse(s, client, std::move(why));
}

void tell_stored(CoreState& s, const ClientPut& put) {
  s.out.push_back(SendClient{put.client, Stored{put.chunk.id, put.chunk.image}});
}

// A try that was refused: what is still under way of it is dropped, an image that begins again
// starts a new one. True: dropped.
bool is_of_refused_try(CoreState& s, const ClientPut& put, Upload& upload) {
  if (!upload.refusal) return false;
  const std::uint64_t bit = put.chunk.image < 64 ? 1ull << put.chunk.image : 0;
  const bool begins = put.chunk.offset == 0;
  if (begins && (upload.begun & bit) != 0) return false;
  if (begins) upload.begun |= bit;
  if (put.wants_answer) refuse(s, put.client, *upload.refusal);
  return true;
}

Refused refusal_of(const Error& error) {
  return {{}, error.code, error.message, 0};
}

std::string image_name(std::uint32_t index) {
  return "image " + std::to_string(index);
}

// Numbers of a chunk that no state can make right.
std::optional<Refused> check_chunk(const CoreState& s, const ClientPut& put) {
  const PutChunk& chunk = put.chunk;
  const auto wrong = [](Code code, std::string text) {
    return Refused{{}, code, std::move(text), 0};
  };
  if (chunk.image >= s.limits.max_images || chunk.image >= kMaxImages) {
    return wrong(Code::kTooLarge, image_name(chunk.image) + ": a request may have " +
                                      std::to_string(s.limits.max_images) + " images");
  }
  if (chunk.total_bytes > s.limits.max_image_bytes) {
    return wrong(Code::kTooLarge, image_name(chunk.image) + " has " +
                                      std::to_string(chunk.total_bytes) + " bytes; the limit is " +
                                      std::to_string(s.limits.max_image_bytes));
  }
  if (put.bytes.empty() || put.bytes.size() > kMaxChunkBytes || chunk.offset > chunk.total_bytes ||
      put.bytes.size() > chunk.total_bytes - chunk.offset) {
    return wrong(Code::kInvalidArgument, image_name(chunk.image) + ": a chunk of " +
                                             std::to_string(put.bytes.size()) + " bytes at " +
                                             std::to_string(chunk.offset) + " of " +
                                             std::to_string(chunk.total_bytes));
  }
  return std::nullopt;
}

// The first chunk of an image: reserves room for all of it.
std::optional<Refused> begin_image(CoreState& s, const ClientPut& put, Upload& upload) {
  const std::uint32_t index = put.chunk.image;
  const std::uint64_t total = put.chunk.total_bytes;
  if (upload.images.size() <= index) upload.images.resize(index + 1);
  UploadImage& image = upload.images[index];
  release_image(s, upload, image);
  const std::uint64_t most = s.ring.geometry().ingest_pages / 4;
  const std::uint64_t pages = upload.pages() + RingWriter::pages_for(total);
  if (pages > most) {
    return Refused{{},
                   Code::kTooLarge,
                   "the request's images take " + std::to_string(pages * kRingPageBytes) +
                       " bytes of the ring; one request may take " +
                       std::to_string(most * kRingPageBytes),
                   0};
  }
  Client& owner = client_of(s, upload.owner);
  if (owner.bytes + total > s.limits.max_ingest_bytes_per_client) {
    return exhausted(s, "this client has " + std::to_string(owner.bytes) +
                            " bytes of images under way; with " + std::to_string(total) +
                            " more it passes its limit of " +
                            std::to_string(s.limits.max_ingest_bytes_per_client));
  }
  if (auto why = check_user_bytes(s, upload.user, total)) return why;
  const auto slot = s.ring.reserve(RingArena::kIngest, put.chunk.id, total);
  if (!slot) return exhausted(s, slot.error().message);
  image.slot = *slot;
  image.total = total;
  upload.bytes += total;
  owner.bytes += total;
  User& user = user_of(s, upload.user);
  user.bytes += total;
  user.pages += RingWriter::pages_for(total);
  return std::nullopt;
}

// All bytes are there: what does the header say?
std::optional<Refused> complete_image(CoreState& s, UploadImage& image, std::uint32_t index) {
  const auto bytes = s.ring.payload(*image.slot);
  const auto probed = s.seams.probe_image(bytes);
  if (!probed) {
    return Refused{{}, probed.error().code, image_name(index) + ": " + probed.error().message, 0};
  }
  const std::uint32_t side = s.limits.max_image_side;
  const auto pixels = std::uint64_t{probed->width} * probed->height;
  if (probed->width == 0 || probed->height == 0 || probed->width > side || probed->height > side ||
      pixels > static_cast<std::uint64_t>(s.limits.max_image_pixels)) {
    return Refused{{},
                   Code::kTooLarge,
                   image_name(index) + " has " + std::to_string(probed->width) + " x " +
                       std::to_string(probed->height) + " pixels; the limits are " +
                       std::to_string(side) + " a side and " +
                       std::to_string(s.limits.max_image_pixels) + " in all",
                   0};
  }
  image.probed = *probed;
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  image.content_hash_high = hash.high64;
  image.content_hash_low = hash.low64;
  s.ring.publish(*image.slot);
  return std::nullopt;
}

std::optional<Refused> store_chunk(CoreState& s, const ClientPut& put, Upload& upload) {
  const PutChunk& chunk = put.chunk;
  if (chunk.offset == 0) {
    upload.begun |= 1ull << chunk.image;
    if (auto why = begin_image(s, put, upload)) return why;
  } else if (chunk.image >= upload.images.size() || !upload.images[chunk.image].slot) {
    return missing_image(s, chunk.id, chunk.image);
  }
  UploadImage& image = upload.images[chunk.image];
  if (chunk.offset != image.received || chunk.total_bytes != image.total) {
    return Refused{{},
                   Code::kInvalidArgument,
                   image_name(chunk.image) + ": a chunk at " + std::to_string(chunk.offset) +
                       " of " + std::to_string(chunk.total_bytes) + " where " +
                       std::to_string(image.received) + " of " + std::to_string(image.total) +
                       " is next",
                   0};
  }
  FACET_CRASH_POINT("upload.chunk");
  std::memcpy(s.ring.payload(*image.slot).data() + chunk.offset, put.bytes.data(),
              put.bytes.size());
  image.received += put.bytes.size();
  if (image.received < image.total) return std::nullopt;
  return complete_image(s, image, chunk.image);
}

// Why the images of another request may not begin to arrive.
std::optional<Refused> check_new_upload(CoreState& s, const ClientPut& put) {
  auto why = check_user_uploads(s, put.user);
  if (!why && s.uploads.size() >= s.limits.max_uploads) {
    why = exhausted(s, "too many requests are being sent: " + std::to_string(s.uploads.size()));
  }
  return why && put.malformed ? refusal_of(*put.malformed) : why;
}

}  // namespace

Refused missing_image(const CoreState& s, const RequestId& id, std::uint32_t index) {
  // A new broker does not know what a former one was sent, not even whether there was one: the
  // client shall send all again.
  if (s.now - s.recovered_at < s.limits.restart_grace) {
    return {id, Code::kClosed,
            image_name(index) + " is not here; the server has just started: send everything again",
            static_cast<std::uint32_t>(s.limits.retry_hint_min / kMillisecond)};
  }
  return {id, Code::kInvalidArgument,
          image_name(index) + " has not been put, or not within " +
              std::to_string(s.limits.upload_ttl / kSecond) + " s before",
          0};
}

void handle_put(CoreState& s, const ClientPut& put) {
  const RequestId& id = put.chunk.id;
  if (s.requests.contains(id)) {  // accepted already: a client that sends all again
    if (put.wants_answer) tell_stored(s, put);
    return;
  }
  auto found = s.uploads.find(id);
  if (found != s.uploads.end() && found->second.refusal) {
    if (is_of_refused_try(s, put, found->second)) return;
    drop_upload(s, id);
    found = s.uploads.end();
  }
  if (found == s.uploads.end()) {
    if (auto why = check_new_upload(s, put)) {
      why->id = id;
      return refuse(s, put.client, std::move(*why));
    }
    found = s.uploads.emplace(id, Upload{put.client, put.user}).first;
    ++user_of(s, put.user).uploads;
  }
  Upload& upload = found->second;
  touch(s, id, upload);
  if (!s.clients.contains(upload.owner)) {  // gone: the bytes count against who goes on
    upload.owner = put.client;
    client_of(s, put.client).bytes += upload.bytes;
  }
  std::optional<Refused> why;
  if (put.malformed) {
    why = refusal_of(*put.malformed);
  } else if (s.draining) {
    why = Refused{
        {}, Code::kClosed, "the server is draining and takes no new request", kDrainRetryMs};
  } else {
    why = check_chunk(s, put);
  }
  if (put.chunk.offset == 0 && put.chunk.image < 64) upload.begun |= 1ull << put.chunk.image;
  if (!why) why = store_chunk(s, put, upload);
  if (why) return refuse_upload(s, put.client, id, upload, std::move(*why));
  if (put.wants_answer && upload.images[put.chunk.image].is_complete()) tell_stored(s, put);
}

void refuse_try(CoreState& s, const RequestId& id, const Refused& why) {
  const auto found = s.uploads.find(id);
  if (found == s.uploads.end()) return;
  release_images(s, found->second);
  found->second.refusal = why;
  found->second.begun = ~std::uint64_t{0};  // the try is at its end: what begins now is a new one
  s.due_clients.insert(found->second.owner);
}

std::optional<Refused> refused_try(const CoreState& s, const RequestId& id) {
  const auto found = s.uploads.find(id);
  return found == s.uploads.end() ? std::nullopt : found->second.refusal;
}

void drop_upload(CoreState& s, const RequestId& id) {
  const auto found = s.uploads.find(id);
  if (found == s.uploads.end()) return;
  release_images(s, found->second);
  s.upload_timers.erase({found->second.expires, id});
  s.due_clients.insert(found->second.owner);
  --s.users.at(found->second.user).uploads;
  s.uploads.erase(found);
}

std::vector<UploadImage> take_upload(CoreState& s, const RequestId& id) {
  const auto found = s.uploads.find(id);
  if (found == s.uploads.end()) return {};
  Upload& upload = found->second;
  User& user = s.users.at(upload.user);
  user.bytes -= upload.bytes;
  user.pages -= upload.pages();
  std::vector<UploadImage> images = std::exchange(upload.images, {});
  const auto owner = s.clients.find(upload.owner);
  if (owner != s.clients.end()) owner->second.bytes -= upload.bytes;
  upload.bytes = 0;
  drop_upload(s, id);
  return images;
}

void run_upload_timers(CoreState& s) {
  while (!s.upload_timers.empty() && s.upload_timers.begin()->first <= s.now) {
    ++s.counters.uploads_expired;
    const RequestId id = s.upload_timers.begin()->second;
    if (!rule_holds(Rule::kUploadFreed)) s.uploads.at(id).images.clear();
    drop_upload(s, id);
  }
}

}  // namespace facet::core
