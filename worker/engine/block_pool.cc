#include "worker/engine/block_pool.h"

#include <string>

#include "common/base/check.h"

namespace facet {

BlockPool::BlockPool(std::int32_t num_blocks, std::int32_t block_tokens)
    : block_tokens_(block_tokens), references_(static_cast<std::size_t>(num_blocks)) {
  FACET_CHECK(num_blocks > 0 && block_tokens > 0);
  for (std::int32_t block = num_blocks; block-- > 0;) free_.push_back(block);
}

std::int32_t BlockPool::blocks_for(std::int64_t tokens) const {
  return static_cast<std::int32_t>((tokens + block_tokens_ - 1) / block_tokens_);
}

bool BlockPool::acquire(std::int32_t count, std::vector<std::int32_t>& blocks) {
  if (count > num_free()) return false;
  for (std::int32_t i = 0; i < count; ++i) {
    const std::int32_t block = free_.back();
    free_.pop_back();
    references_[static_cast<std::size_t>(block)] = 1;
    blocks.push_back(block);
  }
  return true;
}

void BlockPool::share(std::int32_t block) {
  FACET_CHECK(references_[static_cast<std::size_t>(block)] > 0);
  ++references_[static_cast<std::size_t>(block)];
}

void BlockPool::release(std::vector<std::int32_t>& blocks) {
  while (!blocks.empty()) {
    const std::int32_t block = blocks.back();
    blocks.pop_back();
    std::int32_t& references = references_[static_cast<std::size_t>(block)];
    FACET_CHECK(references > 0);
    if (--references == 0) free_.push_back(block);
  }
}

Status BlockPool::check(std::span<const std::vector<std::int32_t>* const> tables) const {
  std::vector<std::int32_t> held(references_.size(), 0);
  for (const auto* table : tables)
    for (const std::int32_t block : *table) ++held[static_cast<std::size_t>(block)];
  std::vector<std::int32_t> times_free(references_.size(), 0);
  for (const std::int32_t block : free_) ++times_free[static_cast<std::size_t>(block)];
  for (std::size_t block = 0; block < references_.size(); ++block) {
    const bool fits =
        held[block] == references_[block] && times_free[block] == (references_[block] == 0 ? 1 : 0);
    if (!fits)
      return Error(Code::kInternal, "KV block " + std::to_string(block) + " has " +
                                        std::to_string(references_[block]) + " references, " +
                                        std::to_string(held[block]) + " holders and is " +
                                        std::to_string(times_free[block]) + " times free");
  }
  return {};
}

}  // namespace facet
