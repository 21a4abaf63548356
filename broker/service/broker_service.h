// The broker's one thread: sockets, clock and descriptors around the pure core.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>

#include "broker/core/broker_core.h"
#include "broker/service/books_audit.h"
#include "broker/service/client_port.h"
#include "broker/service/control_channel.h"
#include "broker/service/decoder_channel.h"
#include "broker/service/fd_port.h"
#include "broker/service/status_json.h"
#include "broker/service/worker_port.h"

namespace facet {

class BrokerService {
 public:
  // All must outlive the service.
  struct Parts {
    BrokerCore& core;
    Router& client_router;
    Router& worker_router;
    ControlChannel& control;
    int fd_listener = -1;  // SOCK_SEQPACKET, of clients with images as descriptors; may be none
    std::uint32_t num_workers = 0;
    std::uint64_t epoch = 0;  // of the ledger
    std::uint32_t config_generation = 1;
    ClientPort::Limits client_limits;
    FdPort::Limits fd_limits;
    ServiceFacts facts;  // what status tells beyond the core
    // Reads the configuration again; what of it the core takes.
    std::function<Result<LimitsChanged>()> read_limits;
  };
  explicit BrokerService(const Parts& parts);

  // Serves until the supervisor is gone or a drain is complete. Returns the process's exit code.
  int run();

 private:
  // Waits until something can be done, at most until the core's next deadline.
  void wait();
  void notice_pause();
  Status serve_once();
  Status receive_control();
  void receive_decoder();
  bool receive_workers();  // true: there may be more
  bool receive_clients();
  void tick_timers();

  void on_control(ControlChannel::Received received);
  void read_config(std::uint32_t generation);
  void feed(Event event);  // steps the core, executes what it wants, until nothing is left to tell
  void execute(std::vector<Action> actions);
  void on(SendClient& action);
  void on(const SendDispatch& action);
  void on(const SendCancel& action);
  void on(const SendResume& action);
  void on(const SendAck& action);
  void on(const SendDrain& action);
  void on(const SendDecodeJob& action);
  void on(const KillWorker& action);
  void on(const KillDecoder& action);
  void on(const WorkerFirstStep& action);
  void on(const LogLine& action);
  void report_status();
  bool is_drained() const;

  BrokerCore& core_;
  Router& client_router_;
  Router& worker_router_;
  ControlChannel& control_;
  DecoderChannel decoder_;
  ClientPort clients_;
  FdPort fds_;
  WorkerPort workers_;
  const ServiceFacts facts_;
  BooksAudit audit_;
  const std::function<Result<LimitsChanged>()> read_limits_;
  const std::uint64_t epoch_;

  std::deque<Event> events_;  // told by executing actions, not yet to the core
  bool feeding_ = false;
  bool more_waits_ = false;  // a socket was left before it was empty
  bool draining_ = false;
  bool retiring_ = false;
  Nanos status_due_ = 0;
  Nanos turned_at_ = 0;  // the last turn of the loop; 0: none yet
  std::uint32_t config_generation_;
};

}  // namespace facet
