#include "broker/service/client_table.h"

#include <algorithm>

#include "common/base/check.h"

namespace facet {

std::optional<ClientTable::Found> ClientTable::find_or_add(const std::string& identity, Nanos now) {
  if (const auto known = by_identity_.find(identity); known != by_identity_.end()) {
    touch(known->second, now);
    return Found{known->second, std::nullopt};
  }
  Found found;
  if (by_token_.size() >= max_clients_) {
    const auto oldest = std::min_element(
        by_token_.begin(), by_token_.end(),
        [](const auto& a, const auto& b) { return a.second.last_seen < b.second.last_seen; });
    if (oldest == by_token_.end() || now - oldest->second.last_seen < stale_after_) {
      return std::nullopt;
    }
    found.replaced = oldest->first;
    remove(oldest->first);
  }
  found.token = next_token_++;
  by_token_[found.token] = {identity, now};
  by_identity_[identity] = found.token;
  FACET_CHECK(by_token_.size() == by_identity_.size());
  return found;
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
  by_token_.erase(client);
}

}  // namespace facet
