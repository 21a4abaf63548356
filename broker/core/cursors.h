// Clients: each is a cursor over the logs of the requests it follows. There is no queue of
// messages per client; what is due is read from the ledger when it can be sent.
#pragma once

#include "broker/core/core_state.h"

namespace facet::core {

Client& client_of(CoreState& s, ClientToken token);

// Follows a request from token `next` on; Accepted comes first.
void attach_cursor(CoreState& s, ClientToken token, Request& r, std::uint32_t next);
// Something was appended to the request's log, or it ended.
void wake_cursors(CoreState& s, Request& r);
// The record goes: nobody follows it any more.
void drop_cursors(CoreState& s, Request& r);

void refuse(CoreState& s, ClientToken token, Refused refused);

void client_blocked(CoreState& s, ClientToken token, const ClientNotice& unsent);
void client_writable(CoreState& s, ClientToken token);
void client_gone(CoreState& s, ClientToken token);

// Sends what is due, bounded for each client; keepalives; retries of blocked clients.
void pump_clients(CoreState& s);
// Some client has not been told all of a request that it follows.
bool has_cursors(const CoreState& s);
// When pump_clients() has something to do without a new event.
std::optional<Nanos> next_client_deadline(const CoreState& s);

}  // namespace facet::core
