// What a Client holds: its link, and where each unfinished request stands.
#pragma once

#include <deque>
#include <optional>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/client/client.h"
#include "common/client/fd_link.h"
#include "common/client/link.h"
#include "common/client/upload.h"
#include "common/protocol/codec.h"

namespace facet {

struct PendingRequest {
  enum class Phase {
    kSending,      // images, then generate: in the outbox
    kHandingOver,  // all images went as descriptors, not all of them were answered
    kWaiting,      // generate is sent
    kBackoff,      // refused for now, until resume_at
  };
  GenerateRequest request;
  Upload upload;
  Phase phase = Phase::kSending;
  std::uint32_t held = 0;      // tokens returned to the user
  bool was_submitted = false;  // a generate went out, on whatever connection
  bool cancel_wanted = false;
  Nanos waiting_since = 0;
  enum class Way { kUndecided, kChunks, kDescriptors };
  Way way = Way::kUndecided;     // of its images, in this try
  std::uint32_t tries = 0;       // what is answered of an earlier one is of no interest
  std::uint32_t unanswered = 0;  // descriptors of this try
  void begin_again();
  bool is_followed = false;  // the broker has answered since generate was sent
  std::uint64_t epoch = 0;   // of the broker that accepted it
  Nanos resume_at = 0;
  Nanos give_up_at = 0;  // no more retries after this
};

struct Client::State {
  State(std::string path, ClientOptions client_options);

  struct HandedOver {
    RequestId id;
    std::uint32_t tries = 0;
    ImageMemfd memfd;  // may be written again once it is answered
  };

  void receive_all(Nanos now);
  void handle(const BrokerMessage& message, Nanos now);
  void refused(const Refused& refused, Nanos now);
  void tokens(const Tokens& tokens);
  void keepalive(const Keepalive& keepalive, Nanos now);
  void run_timers(Nanos now);
  void reconnect(Nanos now);
  void pump(Nanos now);
  bool send_request(const RequestId& id, PendingRequest& pending, Nanos now);
  bool send_chunks(const RequestId& id, PendingRequest& pending, Nanos now);
  bool send_descriptors(const RequestId& id, PendingRequest& pending, Nanos now);
  void receive_answers(Nanos now);
  void answered(const PutFdAnswer& answer, Nanos now);
  void taken(const Taken& image);
  void follow_images(const RequestId& id, PendingRequest& request);
  void give_up_descriptors(Nanos now);
  bool is_handover_overdue(Nanos now) const;
  void fail(const RequestId& id, Error error);
  void end_cancelled(const RequestId& id);
  Nanos next_timer(Nanos now) const;
  bool wants_send() const { return !control.empty() || !outbox.empty(); }
  // One round of receive, timers, send; then waits at most until `deadline`. False: a signal came.
  bool turn(Nanos deadline, bool may_wait);

  const std::string socket_path;
  const ClientOptions options;
  Link link;
  FdLink fd_link;
  std::deque<HandedOver> handed_over;  // descriptors without an answer; answers come in this order
  std::vector<ImageMemfd> spare_memfds;  // at most as many, while there are requests
  std::uint64_t num_large = 0;           // requests for which descriptors were worth it
  Nanos handover_moved = 0;              // one was sent or answered
  bool is_held_up = false;               // the head of the outbox waits for such an answer
  std::unordered_map<RequestId, PendingRequest> pending;
  std::deque<RequestId> outbox;     // requests in kSending, in order
  std::deque<std::string> control;  // cancel and status, ahead of the outbox
  std::vector<ClientEvent> events;
  bool is_asking_status = false;  // a status that comes later is dropped
  std::optional<std::string> status_json;
  Nanos last_heard = 0;
  Nanos last_moved = 0;  // sent or reconnected
  std::minstd_rand jitter;
};

}  // namespace facet
