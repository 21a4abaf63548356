// Who asks, as the kernel names the peer (its user id): what a user holds, its limits, its turn.
//
// Turns: round robin among users. A queued request has a round; the queue runs by round, then
// priority, then acceptance. A user's requests get one round each, from the present round on, so
// whoever comes new waits for at most one request of each other user. Batch requests take
// kBatchRounds rounds each: so many interactive ones of a user go before one, and not more, so that
// they are passed over and never starved.
#pragma once

#include <optional>

#include "broker/core/core_state.h"

namespace facet::core {

// Interactive requests of one user that go before a batch request that waits: batch work gets at
// least a seventeenth of what is dispatched, which is seldom seen by people and keeps deadlines.
inline constexpr std::uint64_t kBatchRounds = 16;

User& user_of(CoreState& s, UserId user);

// The round of a new request; the user's next one comes later.
std::uint64_t take_round(CoreState& s, UserId user, Priority priority);
// A request of this round is dispatched: who comes now starts here.
void reach_round(CoreState& s, std::uint64_t round);

// Why the user may not have another request queued, or `record_bytes` more of the ledger.
std::optional<Refused> check_user_requests(CoreState& s, UserId user);
std::optional<Refused> check_user_ledger(CoreState& s, UserId user, std::uint64_t record_bytes);
// Why the user may not begin to send the images of another request.
std::optional<Refused> check_user_uploads(CoreState& s, UserId user);
// Why the user may not have an encoded image of `more` bytes in the ring.
std::optional<Refused> check_user_bytes(CoreState& s, UserId user, std::uint64_t more);

// An unfinished request counts for its user, until it ends.
void count_request(CoreState& s, const Request& r);
void uncount_request(CoreState& s, const Request& r);
Status check_users(const CoreState& s);

}  // namespace facet::core
