// Names of connected clients: ZeroMQ identity <-> the token under which the core knows a client.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>

#include "broker/core/client_notice.h"
#include "common/base/clock.h"
#include "common/base/result.h"

namespace facet {

class ClientTable {
 public:
  // A full table gives up the client unheard of for the longest time, if that is at least
  // `stale_after`: longer than a waiting client goes without a keepalive.
  // One user (by all its connections) may have `max_per_user`.
  ClientTable(std::size_t max_clients, std::size_t max_per_user, Nanos stale_after)
      : max_clients_(max_clients), max_per_user_(max_per_user), stale_after_(stale_after) {}

  struct Found {
    ClientToken token = 0;
    std::optional<ClientToken> replaced;  // this one had to go: tell the core
  };
  // The client's token, a new one if it is unknown; an identity that another user has taken over is
  // another client. kExhausted with the numbers: the table is full, or the user has its part of it.
  Result<Found> find_or_add(const std::string& identity, UserId user, Nanos now);

  // Identity of a client; nullptr when it is unknown (gone already).
  const std::string* identity(ClientToken token) const;
  void touch(ClientToken token, Nanos now);  // a message went to it or came from it
  void remove(ClientToken token);
  std::size_t size() const { return by_token_.size(); }

 private:
  struct Client {
    std::string identity;
    UserId user = 0;
    Nanos last_seen = 0;
  };
  // The one unheard of for the longest time, of all or of one user; 0: none is stale.
  ClientToken stalest(std::optional<UserId> user, Nanos now) const;

  const std::size_t max_clients_;
  const std::size_t max_per_user_;
  const Nanos stale_after_;
  ClientToken next_token_ = 1;
  std::unordered_map<ClientToken, Client> by_token_;
  std::unordered_map<std::string, ClientToken> by_identity_;
  std::map<UserId, std::size_t> of_user_;
};

}  // namespace facet
