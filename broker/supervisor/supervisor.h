// The shell around SupervisorCore: processes, descriptors, clock. Single-threaded (epoll over
// pidfds, a signalfd, the broker's control socket, the decoder's lifeline, the workers'
// bells and sentinels, the operators' socket). Parses nothing that
// comes from a client, maps neither ring nor ledger.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "broker/supervisor/broker_page_writer.h"
#include "broker/supervisor/child_process.h"
#include "broker/supervisor/config_reload.h"
#include "broker/supervisor/operator_port.h"
#include "broker/supervisor/service_notify.h"
#include "broker/supervisor/supervisor_core.h"
#include "broker/supervisor/supervisor_link.h"
#include "broker/supervisor/worker_mailbox.h"
#include "broker/supervisor/worker_watch.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"

namespace facet {

// What outlives every child, and where things are.
struct SupervisorSetup {
  SupervisorRules rules;
  std::string program_folder;  // facet-broker, facet-decoder, facet-worker...
  std::string worker_program;  // "facet-worker" or "facet-worker-echo"
  std::string config_path;     // for the children
  std::vector<std::string> gpus;  // UUIDs, one a worker; empty: none is bound to a GPU
  std::string client_socket;   // named in the ready line
  std::string fd_socket;       // beside it, for images as descriptors; empty: there is none
  std::string worker_socket;
  UniqueFd ring;               // read-write
  UniqueFd ring_read_only;
  UniqueFd ledger;
  UniqueFd client_listener;
  UniqueFd fd_listener;        // may be none
  UniqueFd worker_listener;
  UniqueFd operator_listener;
  Config config;               // in effect
  ConfigReload::Doors config_doors;
  UniqueFd ready;              // gets one byte when the first worker is ready; may be none
};

class Supervisor {
 public:
  // From here on a signal waits until run() takes it. Called before anything is made, so that what
  // is made on the way up is removed on the way down, however early the request to stop comes.
  static void hold_signals();
  // Blocks the signals it handles; call from the main thread, with no other thread running.
  static Result<std::unique_ptr<Supervisor>> create(SupervisorSetup setup);

  // Serves until it is told to stop or nothing can be served. Returns the exit code.
  int run();

 private:
  struct Child {
    ChildId id;
    ChildProcess process;
    WorkerWatch watch;                // workers
    WorkerMailbox mailbox;            // workers
    std::uint64_t last_progress = 0;  // of the page, at the last look
    bool was_heard = false;           // its last words were
  };

  explicit Supervisor(SupervisorSetup setup);
  Status open_descriptors();
  void feed(const SupervisorEvent& event);
  void execute(const StartChild& action);
  void execute(const SignalChild& action);
  void execute(const TellBroker& action);
  void execute(const PublishEpoch& action);
  void execute(const TellOperator& action);
  void execute(const RestoreConfig& action);
  void execute(const Announce& action);
  void execute(const Note& action);
  void execute(const Leave& action);

  Result<Child> fork_child(const ChildId& id);
  Result<ChildProgram> broker_program();
  Result<ChildProgram> decoder_program();
  ChildProgram worker_program(const Child& child) const;
  std::vector<UniqueFd> mailbox_for_broker(const ControlPacket& packet) const;
  void close_handed_over(Role role);

  void wait_and_handle();
  void on_readable(int fd);
  void read_signals();
  void read_operator(int fd);
  void on_request(const OperatorPort::Asked& asked);
  ConfigReload::Outcome reload(ConfigReload::Scope scope);
  void reload_for_signal();
  void read_broker();
  void reap(int pidfd);
  bool hear_worker(int fd);
  void see_death(Child& child);
  void hear_last_words(Child& child);
  void read_lifeline();
  void look_at_pages();
  void feed_watchdog();
  void watch(int fd) const;

  SupervisorSetup setup_;
  SupervisorCore core_;
  ServiceNotify notify_;
  SupervisorLink broker_;
  BrokerPageWriter broker_page_;
  OperatorPort operators_;
  ConfigReload config_;
  bool is_announced_ = false;   // READY=1 was sent
  std::vector<std::unique_ptr<Child>> children_;
  UniqueFd epoll_;
  UniqueFd signals_;
  UniqueFd lifeline_read_;      // the workers' lifeline: they hold the read end
  UniqueFd lifeline_write_;
  UniqueFd decoder_lifeline_;   // read end; EOF: decoder and children are gone
  UniqueFd handed_control_;     // ends for a child that is being started
  UniqueFd handed_jobs_;
  UniqueFd handed_lifeline_;
  UniqueFd jobs_for_broker_;
  Nanos watchdog_due_ = 0;
  bool has_left_ = false;
  int exit_code_ = 0;
};

}  // namespace facet
