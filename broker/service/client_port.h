// Messages between the broker and its clients: ZeroMQ on one side, core events on the other.
// Nothing a client sends reaches the core before the codec has accepted it; of a put or generate
// that it refused the core is told the id, so that what it keeps of the upload goes.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <unordered_set>

#include "broker/core/actions.h"
#include "broker/core/events.h"
#include "broker/service/client_table.h"
#include "broker/service/log_limiter.h"
#include "broker/service/router.h"

namespace facet {

class ClientPort {
 public:
  struct Counters {
    std::uint64_t received = 0;
    std::uint64_t refused_malformed = 0;
    std::uint64_t refused_table_full = 0;
    std::uint64_t gone = 0;             // connections that ended while the core knew them
    std::uint64_t replies_dropped = 0;  // refusals and status replies to a client with no room
  };

  using EventSink = std::function<void(Event)>;
  using StatusJson = std::function<std::string()>;

  struct Limits {
    std::size_t max_clients = 0;
    std::size_t max_clients_per_user = 0;
  };
  ClientPort(Router& router, const Limits& limits, EventSink sink, StatusJson status_json);

  // Takes one message; its event goes to the sink. False when there is none.
  bool receive(Nanos now);

  // Before each vector of actions: a client that was full is tried again.
  void begin_actions() { full_.clear(); }
  // Sends, or puts ClientBlocked or ClientGone at the end of `events`.
  void send(SendClient action, Nanos now, std::deque<Event>& events);

  const Counters& counters() const { return counters_; }
  std::size_t num_clients() const { return table_.size(); }

 private:
  void handle(const Router::Message& message, ClientToken client);
  void refuse_malformed(const Router::Message& message, ClientToken client, const Error& error);
  void refuse(const std::string& identity, const Router::Message& message, const Error& error,
              std::uint32_t retry_after_ms);
  void reply(const std::string& identity, const std::string& payload);

  Router& router_;
  ClientTable table_;
  EventSink sink_;
  StatusJson status_json_;
  std::unordered_set<ClientToken> full_;  // within the current vector of actions
  Counters counters_;
  LogLimiter log_limiter_{10, kSecond};
};

}  // namespace facet
