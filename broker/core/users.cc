#include "broker/core/users.h"

#include <algorithm>
#include <string>

#include "broker/core/requests.h"

namespace facet::core {
namespace {

// A user may have this part of the ledger for its unfinished requests, so that there is always room
// for another one.
constexpr std::uint64_t kLedgerShare[] = {3, 4};
constexpr std::size_t kUsersKept = 64;  // beyond them, those that hold nothing are forgotten

std::string name(UserId user) {
  return user == kUnknownUser ? "an unknown user" : "user " + std::to_string(user);
}

std::uint64_t pages_of(const Request& r) {
  std::uint64_t pages = 0;
  for (const LedgerImage& image : r.images) pages += RingWriter::pages_for(image.bytes);
  return pages;
}

// Of what is full: the part that each user with something in it may have.
std::uint32_t equal_share(const CoreState& s, const User& mine) {
  std::uint32_t users = mine.queued == 0 ? 1 : 0;
  for (const auto& [id, user] : s.users) users += user.queued > 0 ? 1 : 0;
  return std::max(1u, s.limits.max_queued_requests / users);
}

}  // namespace

User& user_of(CoreState& s, UserId user) {
  if (!s.users.contains(user) && s.users.size() >= kUsersKept) {
    std::erase_if(s.users, [&s](const auto& entry) {
      const User& idle = entry.second;
      return idle.requests == 0 && idle.uploads == 0 && idle.next_round <= s.round;
    });
  }
  return s.users[user];
}

std::uint64_t take_round(CoreState& s, UserId id, Priority priority) {
  User& user = user_of(s, id);
  if (priority == Priority::kInteractive) {
    const std::uint64_t round = std::max(s.round, user.next_round);
    user.next_round = round + 1;
    return round;
  }
  const std::uint64_t round = std::max(s.round + kBatchRounds, user.next_batch_round);
  user.next_batch_round = round + kBatchRounds;
  return round;
}

void reach_round(CoreState& s, std::uint64_t round) {
  s.round = std::max(s.round, round);
}

std::optional<Refused> check_user_requests(CoreState& s, UserId id) {
  const User& user = user_of(s, id);
  const std::uint32_t own = s.limits.max_queued_per_user;
  if (own > 0 && user.queued >= own) {
    return exhausted(s, name(id) + " has " + std::to_string(user.queued) +
                            " requests waiting; the limit of one user is " + std::to_string(own));
  }
  const std::uint32_t queued = num_queued(s);
  if (queued < s.limits.max_queued_requests) return std::nullopt;
  // Full: but who has less than an equal share of it is not turned away for what others have.
  if (user.queued < equal_share(s, user)) return std::nullopt;
  return exhausted(s, std::to_string(queued) + " requests are waiting, " +
                          std::to_string(user.queued) + " of them of " + name(id) +
                          "; the limit is " + std::to_string(s.limits.max_queued_requests));
}

std::optional<Refused> check_user_ledger(CoreState& s, UserId id, std::uint64_t record_bytes) {
  const std::uint64_t all = std::uint64_t{s.ledger.use().pages} * kLedgerPageBytes;
  const std::uint64_t most = all / kLedgerShare[1] * kLedgerShare[0];
  if (record_bytes > all / 4) return std::nullopt;  // too large for ever, and told so
  const User& user = user_of(s, id);
  if (user.record_bytes + record_bytes <= most) return std::nullopt;
  return exhausted(s, name(id) + " has unfinished requests of " +
                          std::to_string(user.record_bytes) + " bytes in the ledger; with " +
                          std::to_string(record_bytes) + " more it passes the limit of one user, " +
                          std::to_string(most));
}

std::optional<Refused> check_user_uploads(CoreState& s, UserId id) {
  const User& user = user_of(s, id);
  if (user.uploads < s.limits.max_uploads_per_user) return std::nullopt;
  return exhausted(s, name(id) + " has begun to send the images of " +
                          std::to_string(user.uploads) +
                          " requests and not asked for their answers; the limit of one user is " +
                          std::to_string(s.limits.max_uploads_per_user));
}

std::optional<Refused> check_user_bytes(CoreState& s, UserId id, std::uint64_t more) {
  const User& user = user_of(s, id);
  const std::uint64_t pages = RingWriter::pages_for(more);
  if (user.pages + pages > s.limits.max_ingest_pages_per_user) {
    return exhausted(s, name(id) + " has " + std::to_string(user.pages) + " pages of " +
                            std::to_string(kRingPageBytes) + " bytes of the ring; with " +
                            std::to_string(pages) + " more it passes the limit of one user, " +
                            std::to_string(s.limits.max_ingest_pages_per_user));
  }
  if (user.bytes + more <= s.limits.max_ingest_bytes_per_user) return std::nullopt;
  return exhausted(s, name(id) + " has " + std::to_string(user.bytes) +
                          " bytes of images under way; with " + std::to_string(more) +
                          " more it passes the limit of one user, " +
                          std::to_string(s.limits.max_ingest_bytes_per_user));
}

void count_request(CoreState& s, const Request& r) {
  User& user = user_of(s, r.user);
  ++user.requests;
  user.bytes += r.owner_bytes;
  user.pages += pages_of(r);
  user.record_bytes += r.record_bytes;
}

void uncount_request(CoreState& s, const Request& r) {
  User& user = s.users.at(r.user);
  --user.requests;
  user.bytes -= r.owner_bytes;
  user.pages -= pages_of(r);
  user.record_bytes -= r.record_bytes;
}

Status check_users(const CoreState& s) {
  std::map<UserId, User> counted;
  std::uint64_t queued_tokens = 0;
  for (const auto& [id, r] : s.requests) {
    if (!r.is_unfinished()) continue;
    User& user = counted[r.user];
    ++user.requests;
    user.bytes += r.owner_bytes;
    user.pages += pages_of(r);
    user.record_bytes += r.record_bytes;
    if (!r.is_queued()) continue;
    ++user.queued;
    queued_tokens += r.queued_tokens;
  }
  for (const auto& [id, upload] : s.uploads) {
    User& user = counted[upload.user];
    ++user.uploads;
    user.bytes += upload.bytes;
    user.pages += upload.pages();
  }
  if (queued_tokens != s.queued_tokens) {
    return Error(Code::kInternal, "queued tokens: " + std::to_string(queued_tokens) + " counted, " +
                                      std::to_string(s.queued_tokens) + " stated");
  }
  for (const auto& [id, user] : s.users) {
    const User& seen = counted[id];
    if (seen.requests != user.requests || seen.queued != user.queued ||
        seen.uploads != user.uploads || seen.bytes != user.bytes || seen.pages != user.pages ||
        seen.record_bytes != user.record_bytes) {
      return Error(Code::kInternal, "what " + name(id) + " holds is counted wrong");
    }
  }
  for (const auto& [id, user] : counted) {
    if (user.requests + user.uploads > 0 && !s.users.contains(id)) {
      return Error(Code::kInternal, name(id) + " holds something and is not known");
    }
  }
  return {};
}

}  // namespace facet::core
