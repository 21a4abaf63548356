// The loop of a worker: receive, admit, step, report. One thread; the engine's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "common/protocol/messages.h"
#include "common/shm/mailbox.h"
#include "worker/engine/engine.h"
#include "worker/service/broker_epoch.h"
#include "worker/service/broker_link.h"
#include "worker/service/image_gate.h"
#include "worker/service/output_log.h"
#include "worker/service/page_writer.h"

namespace facet {

class WorkerLoop {
 public:
  struct Identity {
    std::uint32_t worker = 0;
    std::uint64_t incarnation = 0;
    std::string socket_path;  // of the broker's listener for workers
  };
  struct Surroundings {  // all must outlive the loop
    const ImageGate& gate;
    const BrokerEpoch& broker;
    PageWriter& page;
    MailboxReader& mailbox;
    int lifeline_fd = -1;
  };

  WorkerLoop(Identity identity, Engine& engine, const Surroundings& around);

  // Serves whichever broker there is until told to drain, the supervisor is gone, or the engine
  // fails. Returns the process's exit code.
  int run();

 private:
  // A new broker: a new connection, and a hello with all that is held. None: no connection.
  Status follow_broker();
  Status say_hello();
  bool is_connected() const { return link_ != nullptr; }
  Status receive_all();
  Status handle(std::string_view message);
  void dispatch(Dispatch command);
  void cancel(const CancelSequence& command);
  Status resume(const Resume& command);
  void show_held();  // in the page's black box
  // One engine step, or a rest until something happens.
  Status work();
  Status step();
  Status rest();
  void wait(Nanos timeout);
  // One Step message of what the log has not sent, once the broker has answered the hello and if
  // there is room; what is more than a message holds waits for the next call.
  Status report();
  // Ends a dispatch that never reached the engine.
  void end_early(const Dispatch& command, SequenceEnd::Kind kind, const Error& error);
  bool is_done() const;

  const Identity identity_;
  Engine& engine_;
  const Surroundings around_;

  std::uint64_t epoch_ = 0;           // of the broker that link_ speaks to; 0 = none
  std::unique_ptr<BrokerLink> link_;  // null while no broker serves
  bool is_resumed_ = false;           // it has answered the hello
  std::unordered_map<RequestId, std::uint32_t> held_;  // request -> attempt that the engine holds
  OutputLog log_;
  std::uint64_t steps_ = 0;  // Step messages
  bool draining_ = false;
  bool is_box_stale_ = false;  // held_ is not what the page shows
  bool checked_idle_ = false;  // conservation was checked since the engine last worked
};

}  // namespace facet
