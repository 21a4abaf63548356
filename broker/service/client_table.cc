#include "broker/service/client_table.h"

#include <algorithm>

#include "common/base/check.h"

namespace facet {

Result<ClientTable::Found> ClientTable::find_or_add(const std::string& identity, UserId user,
                                                    Nanos now) {
  Found found;
  if (const auto known = by_identity_.find(identity); known != by_identity_.end()) {
    const ClientToken token = known->second;
    if (by_token_.at(token).user == user) {
      touch(token, now);
      return Found{token, std::nullopt};
    }
    found.replaced = token;
    remove(token);
  }
  const auto mine = of_user_.find(user);
  const std::size_t held = mine == of_user_.end() ? 0 : mine->second;
  const bool is_user_full = held >= max_per_user_;
  if (is_user_full || by_token_.size() >= max_clients_) {
    const ClientToken oldest = stalest(is_user_full ? std::optional(user) : std::nullopt, now);
    if (oldest == 0) {
      const std::string who = user == kUnknownUser ? "?" : std::to_string(user);
      return Error(Code::kExhausted,
                   is_user_full ? "user " + who + " has " + std::to_string(held) +
                                      " clients; the limit of one user is " +
                                      std::to_string(max_per_user_)
                                : std::to_string(by_token_.size()) +
                                      " clients are here; the limit is " +
                                      std::to_string(max_clients_));
    }
    found.replaced = oldest;
    remove(oldest);
  }
  found.token = next_token_++;
  by_token_[found.token] = {identity, user, now};
  by_identity_[identity] = found.token;
  ++of_user_[user];
  FACET_CHECK(by_token_.size() == by_identity_.size());
  return found;
}

ClientToken ClientTable::stalest(std::optional<UserId> user, Nanos now) const {
  ClientToken token = 0;
  Nanos seen = now - stale_after_ + 1;
  for (const auto& [candidate, client] : by_token_) {
    if ((user && client.user != *user) || client.last_seen >= seen) continue;
    token = candidate;
    seen = client.last_seen;
  }
  return token;
}

const std::string* ClientTable::identity(ClientToken token) const {
  const auto client = by_token_.find(token);
  return client == by_token_.end() ? nullptr : &client->second.identity;
}

void ClientTable::touch(ClientToken token, Nanos now) {
  if (const auto client = by_token_.find(token); client != by_token_.end()) {
    client->second.last_seen = now;
  }
}

void ClientTable::remove(ClientToken token) {
  const auto client = by_token_.find(token);
  if (client == by_token_.end()) return;
  by_identity_.erase(client->second.identity);
  const auto user = of_user_.find(client->second.user);
  if (--user->second == 0) of_user_.erase(user);
  by_token_.erase(client);
}

}  // namespace facet
