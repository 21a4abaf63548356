#include "broker/core/cursors.h"

#include <algorithm>
#include <utility>

#include "broker/core/eta.h"
#include "broker/core/requests.h"
#include "broker/core/rules.h"

namespace facet::core {
namespace {

constexpr std::size_t kRefusalsKept = 64;  // of a client that does not read; more are dropped

void make_due(CoreState& s, ClientToken token, Client& client, const RequestId& id,
              Cursor& cursor) {
  if (!cursor.is_queued) {
    cursor.is_queued = true;
    client.due.push_back(id);
  }
  s.due_clients.insert(token);
}

void forget_if_unused(CoreState& s, ClientToken token) {
  const auto found = s.clients.find(token);
  if (found == s.clients.end()) return;
  const Client& client = found->second;
  if (client.cursors.empty() && client.refusals.empty() && client.requests == 0 &&
      client.bytes == 0 && !client.is_blocked) {
    s.due_clients.erase(token);
    s.clients.erase(found);
  }
}

Done done_message(CoreState& s, const Request& r) {
  const RecordView view = s.ledger.view(r.record);
  const auto since = [&r](Nanos when) {
    return when == 0 ? 0.0
                     : static_cast<double>(when - r.accepted) / static_cast<double>(kMillisecond);
  };
  Done done;
  done.id = r.id;
  done.reason = static_cast<FinishReason>(view.terminal.reason);
  done.text = view.terminal.tail;
  done.usage = {view.terminal.prompt_tokens, view.terminal.image_tokens,
                static_cast<std::uint32_t>(view.token_ids.size()), view.terminal.cached_tokens};
  done.attempts = view.progress.attempts;
  done.timings = {since(view.progress.dispatched), since(view.progress.first_token),
                  since(view.terminal.finished)};
  done.code = static_cast<Code>(view.terminal.code);
  done.error = view.terminal.error;
  return done;
}

Tokens tokens_message(CoreState& s, const Request& r, std::uint32_t first) {
  const auto ids = s.ledger.token_ids(r.record);
  const auto count = static_cast<std::uint32_t>(ids.size());
  // Halve until it fits: text has no fixed size per token, one token always goes.
  std::uint32_t end = std::min(count, first + s.limits.max_tokens_bytes / 4);
  const auto bytes = [&] {
    return s.ledger.text_between(r.record, first, end).size() + 4ull * (end - first) +
           s.ledger.logprobs_between(r.record, first, end).size_bytes();
  };
  while (end > first + 1 && bytes() > s.limits.max_tokens_bytes) end = first + (end - first) / 2;
  Tokens tokens;
  tokens.id = r.id;
  tokens.index = first;
  tokens.token_ids.assign(ids.begin() + first, ids.begin() + end);
  tokens.text = s.ledger.text_between(r.record, first, end);
  const auto logprobs = s.ledger.logprobs_between(r.record, first, end);
  tokens.logprobs.assign(logprobs.begin(), logprobs.end());
  return tokens;
}

// In the queue before it. The few that are being decoded or wait out a back-off count as ahead.
std::uint32_t requests_ahead(const CoreState& s, const Request& r) {
  if (!r.is_queued()) return 0;
  const std::uint32_t others = num_queued(s) - 1;
  std::uint32_t behind = 0;
  for (const auto* queues : {&s.waiting, &s.ready}) {
    for (const auto& queue : *queues) {
      // From the end: a new one is near it.
      for (auto next = queue.rbegin(); next != queue.rend() && r.key < next->first; ++next) {
        ++behind;
      }
    }
  }
  return others - behind;
}

Accepted accepted_message(const CoreState& s, const Request& r) {
  Accepted accepted{r.id, requests_ahead(s, r), s.ledger.num_tokens(r.record), s.ledger.epoch()};
  accepted.eta_ms = r.is_queued() ? eta_ms(s, accepted.queue_position) : 0;
  return accepted;
}

void drop_watcher(CoreState& s, Request& r, ClientToken token) {
  r.watchers.erase(std::remove(r.watchers.begin(), r.watchers.end(), token), r.watchers.end());
  index_eviction(s, r);
}

void add_watcher(CoreState& s, Request& r, ClientToken token) {
  r.watchers.push_back(token);
  index_eviction(s, r);
}

// Sends the next message of one cursor. False when it is up to date.
bool send_next(CoreState& s, ClientToken token, Client& client, const RequestId& id) {
  const auto found = client.cursors.find(id);
  if (found == client.cursors.end()) return false;
  Cursor& cursor = found->second;
  Request& r = *find_request(s, id);
  const std::uint32_t count = s.ledger.num_tokens(r.record);
  if (cursor.accepted_due) {
    cursor.accepted_due = false;
    s.out.push_back(SendClient{token, accepted_message(s, r)});
    return true;
  }
  if (cursor.next < count) {
    Tokens tokens = tokens_message(s, r, cursor.next);
    cursor.next += static_cast<std::uint32_t>(tokens.token_ids.size());
    s.out.push_back(SendClient{token, std::move(tokens)});
    return true;
  }
  if (r.is_unfinished()) return false;
  s.out.push_back(SendClient{token, done_message(s, r)});
  if (!rule_holds(Rule::kDoneOnce)) s.out.push_back(SendClient{token, done_message(s, r)});
  client.cursors.erase(found);
  r.kept_since = s.now;
  drop_watcher(s, r, token);
  s.ledger.set_told(r.record, s.now);
  return true;
}

void pump_client(CoreState& s, ClientToken token, Client& client) {
  std::uint32_t sent = 0;
  while (!client.refusals.empty() && sent < s.limits.max_messages_per_pump) {
    s.out.push_back(SendClient{token, std::move(client.refusals.front())});
    client.refusals.pop_front();
    ++sent;
  }
  while (!client.due.empty() && sent < s.limits.max_messages_per_pump) {
    const RequestId id = client.due.front();
    if (send_next(s, token, client, id)) {
      ++sent;
      client.due.pop_front();
      if (client.cursors.contains(id)) client.due.push_back(id);  // others' turn
    } else {
      client.due.pop_front();
      const auto cursor = client.cursors.find(id);
      if (cursor != client.cursors.end()) cursor->second.is_queued = false;
    }
  }
}

void send_keepalives(CoreState& s) {
  if (s.now < s.next_keepalive) return;
  s.next_keepalive = s.now + s.limits.keepalive;
  for (const auto& [token, client] : s.clients) {
    if (!client.is_blocked && !client.cursors.empty()) {
      s.out.push_back(SendClient{token, Keepalive{s.ledger.epoch()}});
    }
  }
}

}  // namespace

Client& client_of(CoreState& s, ClientToken token) {
  return s.clients[token];
}

void attach_cursor(CoreState& s, ClientToken token, Request& r, std::uint32_t next) {
  Client& client = client_of(s, token);
  const auto [where, is_new] = client.cursors.try_emplace(r.id);
  if (is_new) add_watcher(s, r, token);
  where->second.next = next;
  where->second.accepted_due = true;
  make_due(s, token, client, r.id, where->second);
}

void wake_cursors(CoreState& s, Request& r) {
  for (ClientToken token : r.watchers) {
    Client& client = client_of(s, token);
    make_due(s, token, client, r.id, client.cursors.at(r.id));
  }
}

void drop_cursors(CoreState& s, Request& r) {
  for (ClientToken token : r.watchers) {
    client_of(s, token).cursors.erase(r.id);
    s.due_clients.insert(token);
  }
  r.watchers.clear();
}

void refuse(CoreState& s, ClientToken token, Refused refused) {
  ++s.counters.refused[static_cast<std::size_t>(refused.code)];
  Client& client = client_of(s, token);
  if (client.refusals.size() < kRefusalsKept) client.refusals.push_back(std::move(refused));
  s.due_clients.insert(token);
}

void client_blocked(CoreState& s, ClientToken token, const ClientNotice& unsent) {
  ++s.counters.client_blocked;
  Client& client = client_of(s, token);
  client.is_blocked = true;
  client.retry_at = s.now + s.limits.blocked_retry;
  s.due_clients.insert(token);
  // Rewinds the cursor of a request that is still known.
  const auto rewind = [&](const RequestId& id, std::uint32_t next) -> Cursor* {
    if (!rule_holds(Rule::kBlockedRewinds)) return nullptr;
    Request* r = find_request(s, id);
    if (r == nullptr) return nullptr;
    const auto [where, is_new] = client.cursors.try_emplace(id);
    if (is_new) {  // its Done was the unsent one
      add_watcher(s, *r, token);
      if (!r->is_unfinished()) s.ledger.set_told(r->record, std::nullopt);
    }
    Cursor& cursor = where->second;
    cursor.next = is_new ? next : std::min(cursor.next, next);
    make_due(s, token, client, id, cursor);
    return &cursor;
  };
  if (const auto* accepted = std::get_if<Accepted>(&unsent)) {
    if (Cursor* cursor = rewind(accepted->id, UINT32_MAX)) cursor->accepted_due = true;
  } else if (const auto* tokens = std::get_if<Tokens>(&unsent)) {
    rewind(tokens->id, tokens->index);
  } else if (const auto* done = std::get_if<Done>(&unsent)) {
    rewind(done->id, done->usage.completion_tokens);
  } else if (const auto* refused = std::get_if<Refused>(&unsent)) {
    if (client.refusals.size() < kRefusalsKept) client.refusals.push_back(*refused);
  }
}

void client_writable(CoreState& s, ClientToken token) {
  const auto found = s.clients.find(token);
  if (found == s.clients.end()) return;
  found->second.is_blocked = false;
  s.due_clients.insert(token);
}

void client_gone(CoreState& s, ClientToken token) {
  const auto found = s.clients.find(token);
  if (found == s.clients.end()) return;
  for (const auto& [id, cursor] : found->second.cursors) {
    drop_watcher(s, *find_request(s, id), token);
  }
  // Nothing counts against it any more, should a late message bring its token back.
  for (auto& [id, r] : s.requests) {
    if (r.owner == token) r.owner = 0;
  }
  for (auto& [id, upload] : s.uploads) {
    if (upload.owner == token) upload.owner = 0;
  }
  s.due_clients.erase(token);
  s.clients.erase(found);
}

void pump_clients(CoreState& s) {
  send_keepalives(s);
  std::vector<ClientToken> still_due;
  const std::set<ClientToken> due = std::exchange(s.due_clients, {});
  for (ClientToken token : due) {
    const auto found = s.clients.find(token);
    if (found == s.clients.end()) continue;
    Client& client = found->second;
    if (client.is_blocked && s.now >= client.retry_at) client.is_blocked = false;
    if (!client.is_blocked) pump_client(s, token, client);
    if (client.is_blocked || !client.due.empty() || !client.refusals.empty()) {
      still_due.push_back(token);
    } else {
      forget_if_unused(s, token);
    }
  }
  s.due_clients.insert(still_due.begin(), still_due.end());
}

bool has_cursors(const CoreState& s) {
  return std::any_of(s.clients.begin(), s.clients.end(),
                     [](const auto& entry) { return !entry.second.cursors.empty(); });
}

std::optional<Nanos> next_client_deadline(const CoreState& s) {
  std::optional<Nanos> next;
  const auto consider = [&next](Nanos when) { next = next ? std::min(*next, when) : when; };
  for (ClientToken token : s.due_clients) {
    const auto found = s.clients.find(token);
    if (found == s.clients.end()) continue;
    consider(found->second.is_blocked ? found->second.retry_at : s.now);
  }
  if (has_cursors(s)) consider(s.next_keepalive);
  return next;
}

}  // namespace facet::core
