// The part of a client's state that hands images over as descriptors: some at a time are without an
// answer, the request follows when all of its own are stored, or the last one is taken. Whenever
// this way fails, what was under way goes as chunks.
#include <algorithm>

#include "common/client/client_state.h"

namespace facet {
namespace {

// Images in memfds that the broker has not answered: bounds the memory, and lets one be filled
// while another is copied.
constexpr std::size_t kMaxHandedOver = 4;

}  // namespace

void PendingRequest::begin_again() {
  upload.restart();
  way = Way::kUndecided;
  unanswered = 0;
  ++tries;
}

bool Client::State::send_descriptors(const RequestId& id, PendingRequest& request, Nanos now) {
  while (!request.upload.is_at_end()) {
    if (handed_over.size() >= kMaxHandedOver) {
      is_held_up = true;
      return false;
    }
    std::optional<ImageMemfd> spare;
    if (!spare_memfds.empty()) {
      spare = std::move(spare_memfds.back());
      spare_memfds.pop_back();
    }
    auto image = request.upload.next_memfd(std::move(spare));
    if (!image) {
      fail(id, image.error());
      return true;
    }
    if (!*image) {
      if (request.unanswered > 0) give_up_descriptors(now);  // or both ways would mix
      request.begin_again();
      request.way = PendingRequest::Way::kChunks;
      return send_chunks(id, request, now);
    }
    (*image)->put.wants_taken = request.upload.is_at_end();
    if (!fd_link.send(encode_message((*image)->put), (*image)->memory.fd())) {
      give_up_descriptors(now);
      request.begin_again();
      request.way = PendingRequest::Way::kChunks;
      return send_chunks(id, request, now);
    }
    last_moved = handover_moved = now;
    handed_over.push_back({id, request.tries, std::move((*image)->memory)});
    ++request.unanswered;
  }
  request.phase = PendingRequest::Phase::kHandingOver;
  return true;
}

void Client::State::receive_answers(Nanos now) {
  while (fd_link.fd() >= 0) {
    const auto answer = fd_link.receive();
    if (!answer || (*answer && handed_over.empty())) return give_up_descriptors(now);
    if (!*answer) return;
    last_heard = handover_moved = now;
    answered(**answer, now);
  }
}

void Client::State::answered(const PutFdAnswer& answer, Nanos now) {
  if (const auto* early = std::get_if<Taken>(&answer)) return taken(*early);
  const auto* const refusal = std::get_if<Refused>(&answer);
  if (refusal != nullptr && refusal->id.is_zero()) return give_up_descriptors(now);  // not wanted
  HandedOver first = std::move(handed_over.front());
  handed_over.pop_front();
  spare_memfds.push_back(std::move(first.memfd));
  const auto found = pending.find(first.id);
  if (found == pending.end() || found->second.tries != first.tries) return;
  PendingRequest& request = found->second;
  if (refusal != nullptr) return refused(*refusal, now);
  if (--request.unanswered == 0) follow_images(first.id, request);
}

// Its memfd is still being read; the broker reads the request when it has done that.
void Client::State::taken(const Taken& image) {
  const HandedOver& first = handed_over.front();
  const auto found = pending.find(image.id);
  if (found == pending.end() || image.id != first.id || found->second.tries != first.tries) return;
  if (found->second.unanswered == 1) follow_images(first.id, found->second);
}

void Client::State::follow_images(const RequestId& id, PendingRequest& request) {
  if (request.phase != PendingRequest::Phase::kHandingOver) return;
  request.phase = PendingRequest::Phase::kSending;  // the request itself
  outbox.push_front(id);
}

// As after any silence; or others are answered, and these are not.
bool Client::State::is_handover_overdue(Nanos now) const {
  if (handed_over.empty()) return false;
  return now - std::max(last_heard, last_moved) > options.silence ||
         now - handover_moved > 2 * options.silence;
}

// The connection ended, or is refused: what was under way by it goes as chunks.
void Client::State::give_up_descriptors(Nanos now) {
  const auto is_ahead = [](const auto& entry) {
    return entry.second.unanswered > 0 && entry.second.phase == PendingRequest::Phase::kWaiting;
  };
  // A request that went ahead of its image may be refused now, which must not mix with its next
  // try.
  if (std::any_of(pending.begin(), pending.end(), is_ahead)) return reconnect(now);
  fd_link.close(now);
  handed_over.clear();
  for (auto& [id, request] : pending) {
    if (request.unanswered == 0) continue;
    const bool is_in_outbox = request.phase == PendingRequest::Phase::kSending;
    request.begin_again();
    request.way = PendingRequest::Way::kChunks;
    request.phase = PendingRequest::Phase::kSending;
    if (!is_in_outbox) outbox.push_back(id);
  }
}

}  // namespace facet
