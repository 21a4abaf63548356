// The rules whose loss must be noticed. In every program rule_holds() is true at compile time and
// leaves nothing behind. The simulator's mutant test is linked with a core of its own in which one
// rule at a time can be broken (FACET_RULES_CAN_BREAK); the other two macros break one rule for a
// whole build.
#pragma once

#include <cstdint>

namespace facet {

enum class Rule : std::uint8_t {
  kIncarnationFence,    // steps of a former incarnation of a worker are dropped
  kAttemptFence,        // updates of a former attempt are dropped
  kFence,               // both of these, and the worker must be the one that has the request
  kIndexFence,          // tokens are committed at their index, once
  kLastHolderFrees,     // slots are freed by their last holder only
  kFreeAfterReap,       // what a dead worker holds is freed when it has been reaped
  kPixelsHeldAtWorker,  // pixels stay leased while a worker has the request
  kCommittedCarried,    // a dispatch carries the tokens that are committed
  kLedgerBeforeClient,  // (of the executor) the ledger is written before anybody is told
  kOldestWaiterFirst,   // nobody is given pixels before the oldest waiter
  kCredits,             // no more dispatches at a worker than its credits
  kStrikes,             // an own-fault death makes its requests suspects
  kSuspectAlone,        // a suspect runs on a worker that holds nothing else
  kSoloDeathConvicts,   // an own-fault death of a suspect alone quarantines it
  kDoneOnce,            // a client is told the end once
  kDeadline,            // a request ends at its deadline
  kUploadFreed,         // an upload that expires gives its slots back
  kDecodeReplyFence,    // a decoder's reply counts for its own job only
  kBlockedRewinds,      // what a full socket did not take is sent again
  kQuotaGivenBack,      // a finished request no longer counts against its client
  kEpochFence,          // what was said to a former broker is dropped
  kResumeFrom,          // a worker is asked to go on exactly after the committed tokens
  kLostSentAgain,       // what should be at a worker and is not is dispatched again
  kFormerHold,          // what workers of a former broker may read stays until they have said
  kUnwantedHold,        // .. and of unwanted sequences until they have ended
  kSoloKept,            // a suspect that runs alone does so under the next broker, too
  kVerdictsKept,        // a death while no broker was there strikes as any other
  kAckCommitted,        // a worker is told of what is in the ledger, not of more
};

#if defined(FACET_RULES_CAN_BREAK)
struct BrokenRule {
  Rule rule = Rule::kFence;
  bool is_set = false;
};
inline BrokenRule broken_rule;
inline bool rule_holds(Rule rule) {
  return !broken_rule.is_set || broken_rule.rule != rule;
}
#elif defined(FACET_MUTATION_NO_FENCE)
constexpr bool rule_holds(Rule rule) {
  return rule != Rule::kFence;
}
#elif defined(FACET_MUTATION_FREE_BEFORE_REAP)
constexpr bool rule_holds(Rule rule) {
  return rule != Rule::kLastHolderFrees;
}
#else
constexpr bool rule_holds(Rule) {
  return true;
}
#endif

}  // namespace facet
