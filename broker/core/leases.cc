#include "broker/core/leases.h"

#include <utility>

#include "broker/core/rules.h"
#include "common/base/check.h"

namespace facet::core {
namespace {

void free_lease(CoreState& s, LeaseId lease) {
  const auto found = s.leases.find(lease);
  for (std::uint32_t slot : found->second.slots) s.ring.free(slot);
  s.leases.erase(found);
}

}  // namespace

LeaseId make_lease(CoreState& s, std::vector<std::uint32_t> slots) {
  const LeaseId id = s.next_lease++;
  s.leases.emplace(id, Lease{std::move(slots)});
  return id;
}

void hold_lease(CoreState& s, LeaseId lease) {
  const auto found = s.leases.find(lease);
  FACET_CHECK(found != s.leases.end() && !found->second.retired);
  ++found->second.holders;
}

void hold_lease_again(CoreState& s, LeaseId lease) {
  const auto found = s.leases.find(lease);
  FACET_CHECK(found != s.leases.end() && found->second.holders > 0);
  ++found->second.holders;
}

void unhold_lease(CoreState& s, LeaseId lease) {
  const auto found = s.leases.find(lease);
  if (found == s.leases.end() && !rule_holds(Rule::kLastHolderFrees)) return;
  FACET_CHECK(found != s.leases.end() && found->second.holders > 0);
  if (--found->second.holders == 0 && found->second.retired) free_lease(s, lease);
}

void retire_lease(CoreState& s, LeaseId& lease) {
  if (lease == 0) return;
  const LeaseId id = std::exchange(lease, 0);
  const auto found = s.leases.find(id);
  FACET_CHECK(found != s.leases.end() && !found->second.retired);
  found->second.retired = true;
  for (std::uint32_t slot : found->second.slots) s.ring.retire(slot);
  if (!rule_holds(Rule::kLastHolderFrees)) found->second.holders = 0;
  if (found->second.holders == 0) free_lease(s, id);
}

}  // namespace facet::core
