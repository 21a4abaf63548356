// Messages between the broker and its workers: a ZeroMQ socket (from them) and mailboxes (to them)
// on one side, core events on the other.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "broker/core/actions.h"
#include "broker/core/events.h"
#include "broker/service/log_limiter.h"
#include "broker/service/router.h"
#include "common/shm/mailbox.h"

namespace facet {

// A worker's ZeroMQ identity: "index.incarnation.epoch", the last one that of the broker it means.
struct WorkerIdentity {
  std::uint32_t worker = 0;
  std::uint64_t incarnation = 0;
  std::uint64_t epoch = 0;
  bool operator==(const WorkerIdentity&) const = default;
};
std::optional<WorkerIdentity> parse_worker_identity(std::string_view text);
std::string format_worker_identity(const WorkerIdentity& identity);

class WorkerPort {
 public:
  WorkerPort(Router& router, std::uint32_t num_workers, std::uint64_t epoch)
      : router_(router), peers_(num_workers), epoch_(epoch) {}

  // A life of a worker has begun, or had before this broker's. A mailbox that cannot be used is
  // logged: that worker is unreachable.
  void open(std::uint32_t worker, std::uint64_t incarnation, MailboxFds mailbox);

  // Takes one message and turns it into an event; `event` stays empty when it is dropped (a peer
  // that is no worker). A worker that breaks the protocol becomes WorkerUnreachable.
  // False when there is no message.
  bool receive(std::optional<Event>& event);

  // What to tell the core at once when the message could not be sent: a worker that takes nothing
  // more. One that has not said hello to this broker hears nothing from it. It is most likely dead,
  // and only the supervisor knows whether by its own fault: the core hears of it from there, or
  // after kVerdictGrace from take_overdue().
  std::optional<Event> send(const SendDispatch& action, Nanos now);
  std::optional<Event> send(const SendCancel& action, Nanos now);
  std::optional<Event> send(const SendResume& action, Nanos now);
  std::optional<Event> send(const SendAck& action, Nanos now);
  std::optional<Event> send(const SendDrain& action, Nanos now);

  // Tries again with what found no room; what to tell the core, as above.
  std::optional<Event> flush();

  // The supervisor has said what became of this life of the worker.
  void forget(std::uint32_t worker, std::uint64_t incarnation);
  // WorkerUnreachable for a worker that could not be told and about which nothing was said.
  std::optional<Event> take_overdue(Nanos now);
  // Also of the next flush().
  std::optional<Nanos> next_deadline(Nanos now) const;

  std::uint64_t num_malformed() const { return malformed_; }

 private:
  std::optional<Event> decode(const WorkerIdentity& from, const Router::Message& message);
  std::optional<Event> send(std::uint32_t worker, std::uint64_t incarnation,
                            std::string_view payload, Nanos now);
  std::optional<Event> told(std::uint32_t worker, const Status& status);

  struct Peer {
    std::uint64_t incarnation = 0;         // of the mailbox
    std::optional<MailboxWriter> mailbox;  // none: dead, or not started yet
    std::uint64_t greeted = 0;             // the incarnation that has said hello to this broker
  };
  struct Lost {
    WorkerIdentity worker;
    Nanos due = 0;
  };

  Router& router_;
  std::vector<Peer> peers_;  // of each worker
  const std::uint64_t epoch_;
  std::vector<Lost> lost_;  // those that could not be told, in the order of their time; few
  std::string encoded_;     // the last dispatch
  std::uint64_t malformed_ = 0;
  LogLimiter log_limiter_{10, kSecond};
};

}  // namespace facet
