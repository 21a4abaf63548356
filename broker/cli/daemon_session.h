// A command's way to a daemon: a running one, or a private one that ends with the command.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "broker/cli/private_daemon.h"
#include "broker/cli/socket_search.h"
#include "common/client/client.h"

namespace facet {

// What `status` says that commands need.
struct ServerFacts {
  std::string model;           // name of its directory; empty while no worker is ready
  std::uint32_t capacity = 0;  // credits of all ready workers
  bool is_hopeless = false;    // every worker is disabled
  std::string trouble;         // why
};
Result<ServerFacts> parse_facts(const std::string& status_json);

class DaemonSession {
 public:
  // Finds or starts a daemon; says on standard error what it does when that is not obvious.
  // kCancelled: interrupted. The rest: no daemon.
  static Result<DaemonSession> open(const DaemonOptions& options, ClientOptions client_options);

  Client& client() { return *client_; }

  // Waits until a worker is ready. kCancelled, or an error that says why none will be: kClosed when
  // the daemon is gone meanwhile (ClientOptions::lost_after, deserted_after).
  Result<ServerFacts> wait_for_worker();
  Result<ServerFacts> facts();

  // A private daemon that ended by itself: an error with its log.
  Status check();

 private:
  std::unique_ptr<PrivateDaemon> own_;  // destroyed last
  std::string socket_;
  ClientOptions client_options_;
  std::optional<Client> client_;
};

}  // namespace facet
