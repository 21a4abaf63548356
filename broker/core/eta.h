// When a worker will begin with a queued request: an estimate.
//
// Basis: a place at a worker gets free when a request ends, so as many requests must end as are
// ahead of it, and one more, unless a place is free. Their tokens: the mean of what all queued and
// running requests are still expected to take (prompt, images and max_tokens), corrected by how
// much of that the last answers took. Divided by the tokens a second that all workers did while
// they had work, over the last ten seconds or so. Nothing before there is a measurement.
#pragma once

#include <cstdint>
#include <optional>

#include "broker/core/core_state.h"

namespace facet::core {

// `ahead`: requests before it in the queue. Milliseconds.
std::optional<std::uint32_t> eta_ms(const CoreState& s, std::uint32_t ahead);

// An answer has ended by itself, having taken this many of the expected tokens.
void learn_length(CoreState& s, std::uint64_t taken, std::uint64_t expected);

}  // namespace facet::core
