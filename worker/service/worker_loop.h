// The loop of a worker: receive, admit, step, report. One thread; the engine's thread.
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/protocol/messages.h"
#include "worker/engine/engine.h"
#include "worker/service/broker_link.h"
#include "worker/service/image_gate.h"
#include "worker/service/page_writer.h"

namespace facet {

class WorkerLoop {
 public:
  struct Identity {
    std::uint32_t worker = 0;
    std::uint64_t incarnation = 0;
  };

  // All must outlive the loop.
  WorkerLoop(const Identity& identity, Engine& engine, BrokerLink& link, const ImageGate& gate,
             PageWriter& page, int lifeline_fd);

  // Says hello and serves until told to drain, the supervisor is gone, or the engine fails.
  // Returns the process's exit code.
  int run();

 private:
  Status say_hello();
  Status receive_all();
  Status handle(std::string_view message);
  void dispatch(Dispatch command);
  void cancel(const CancelSequence& command);
  void show_held();  // in the page's black box
  // One engine step, or a rest until something happens.
  Status work();
  Status step();
  Status rest();
  // Sends what pending_ holds as one Step.
  Status report();
  // Ends a dispatch that never reached the engine.
  void end_early(const Dispatch& command, SequenceEnd::Kind kind, const Error& error);
  bool is_done() const;

  const Identity identity_;
  Engine& engine_;
  BrokerLink& link_;
  const ImageGate& gate_;
  PageWriter& page_;
  const int lifeline_fd_;

  std::unordered_map<RequestId, std::uint32_t> held_;  // request -> attempt that the engine holds
  std::vector<SequenceUpdate> pending_;                // what the next Step reports
  std::uint64_t steps_ = 0;
  bool draining_ = false;
  bool is_box_stale_ = false;  // held_ is not what the page shows
  bool checked_idle_ = false;  // conservation was checked since the engine last worked
};

}  // namespace facet
