// What every fuzz target shares. A target asserts properties with FACET_CHECK: a broken one aborts,
// and libFuzzer keeps the input.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace facet::fuzz {

// Each target defines these two. Seeds come from the project's own writers; fuzz_main.cc stores
// them as files where $FACET_FUZZ_SEEDS says.
std::vector<std::string> seeds();
void run_one(std::string_view input);

// What was refused says what and where: valid UTF-8 of at most `max_bytes`, beginning with one of
// `places`.
void check_refusal(const Error& error, std::size_t max_bytes,
                   std::span<const std::string_view> places);

// Takes numbers off the input's end, so that what stands in front keeps its place when they change.
// An input that has run out yields zeros.
class Dice {
 public:
  explicit Dice(std::string_view& input) : input_(input) {}
  std::uint8_t byte() {
    if (input_.empty()) return 0;
    const auto value = static_cast<std::uint8_t>(input_.back());
    input_.remove_suffix(1);
    return value;
  }
  std::uint32_t word() {
    std::uint32_t value = 0;
    for (int i = 0; i < 4; ++i) value = value << 8 | byte();
    return value;
  }

 private:
  std::string_view& input_;
};

}  // namespace facet::fuzz
