#include "broker/core/eta.h"

#include <algorithm>

#include "broker/core/assignments.h"

namespace facet::core {
namespace {

constexpr double kWeight = 1.0 / 32;            // of one answer among the last ones
constexpr double kLongestMs = 24 * 3600 * 1e3;  // no deadline is longer

}  // namespace

std::optional<std::uint32_t> eta_ms(const CoreState& s, std::uint32_t ahead) {
  if (ahead == 0 && free_places(s) > 0) return 0;
  const double rate = s.throughput.tokens_per_second();
  const std::uint64_t requests = num_queued(s) + s.num_running;
  if (rate <= 0.0 || requests == 0) return std::nullopt;
  std::uint64_t tokens = s.queued_tokens;
  for (const Worker& worker : s.workers) tokens += worker.status.outstanding_tokens;
  const double mean =
      static_cast<double>(tokens) / static_cast<double>(requests) * s.taken_of_expected;
  const double ms = (static_cast<double>(ahead) + 1.0) * mean / rate * 1e3;
  return static_cast<std::uint32_t>(std::min(ms, kLongestMs));
}

void learn_length(CoreState& s, std::uint64_t taken, std::uint64_t expected) {
  if (expected == 0) return;
  const double part = std::min(1.0, static_cast<double>(taken) / static_cast<double>(expected));
  s.taken_of_expected += kWeight * (part - s.taken_of_expected);
}

}  // namespace facet::core
