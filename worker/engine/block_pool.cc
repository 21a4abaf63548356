#include "worker/engine/block_pool.h"

#include <string>

#include "common/base/check.h"

namespace facet {

BlockPool::BlockPool(std::int32_t num_blocks, std::int32_t block_tokens)
    : block_tokens_(block_tokens), blocks_(static_cast<std::size_t>(num_blocks)) {
  FACET_CHECK(num_blocks > 0 && block_tokens > 0);
  for (std::int32_t block = num_blocks; block-- > 0;) free_.push_back(block);
}

std::int32_t BlockPool::blocks_for(std::int64_t tokens) const {
  return static_cast<std::int32_t>((tokens + block_tokens_ - 1) / block_tokens_);
}

// The cached block unused longest, which loses its content.
std::int32_t BlockPool::evict() {
  const std::int32_t block = unused_.begin()->second;
  unused_.erase(unused_.begin());
  by_key_.erase(at(block).key);
  at(block).key = {};
  return block;
}

bool BlockPool::acquire(std::int32_t count, std::vector<std::int32_t>& blocks) {
  if (count > num_available()) return false;
  for (std::int32_t i = 0; i < count; ++i) {
    std::int32_t block = 0;
    if (free_.empty()) {
      block = evict();
    } else {
      block = free_.back();
      free_.pop_back();
    }
    at(block).references = 1;
    blocks.push_back(block);
  }
  return true;
}

void BlockPool::release(std::vector<std::int32_t>& blocks) {
  while (!blocks.empty()) {
    const std::int32_t number = blocks.back();
    blocks.pop_back();
    Block& block = at(number);
    FACET_CHECK(block.references > 0);
    if (--block.references > 0) continue;
    if (block.key.is_none()) {
      free_.push_back(number);
    } else {
      block.unused_since = next_use_++;
      unused_.emplace(block.unused_since, number);
    }
  }
}

void BlockPool::remember(std::int32_t block, const ContentKey& key) {
  FACET_CHECK(at(block).references > 0 && at(block).key.is_none() && !key.is_none());
  if (by_key_.emplace(key, block).second) at(block).key = key;
}

void BlockPool::adopt(std::span<const ContentKey> keys, std::vector<std::int32_t>& blocks) {
  for (const ContentKey& key : keys) {
    const auto found = by_key_.find(key);
    if (found == by_key_.end()) return;
    Block& block = at(found->second);
    if (block.references++ == 0) unused_.erase(block.unused_since);
    blocks.push_back(found->second);
  }
}

void BlockPool::forget(std::span<const ContentKey> keys) {
  for (const ContentKey& key : keys) {
    const auto found = by_key_.find(key);
    if (found == by_key_.end()) continue;
    const std::int32_t number = found->second;
    by_key_.erase(found);
    Block& block = at(number);
    block.key = {};
    if (block.references > 0) continue;
    unused_.erase(block.unused_since);
    free_.push_back(number);
  }
}

Status BlockPool::check(std::span<const std::vector<std::int32_t>* const> tables) const {
  std::vector<std::int32_t> held(blocks_.size(), 0);
  for (const auto* table : tables)
    for (const std::int32_t block : *table) ++held[static_cast<std::size_t>(block)];
  std::vector<std::int32_t> unheld(blocks_.size(), 0);  // times free or cached
  for (const std::int32_t block : free_) ++unheld[static_cast<std::size_t>(block)];
  for (const auto& [since, block] : unused_) ++unheld[static_cast<std::size_t>(block)];
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const Block& block = blocks_[i];
    const auto named = by_key_.find(block.key);
    const bool name_fits = block.key.is_none() || (named != by_key_.end() &&
                                                   named->second == static_cast<std::int32_t>(i));
    if (held[i] == block.references && unheld[i] == (block.references == 0 ? 1 : 0) && name_fits)
      continue;
    return Error(Code::kInternal, "KV block " + std::to_string(i) + " has " +
                                      std::to_string(block.references) + " references, " +
                                      std::to_string(held[i]) + " holders and is " +
                                      std::to_string(unheld[i]) + " times free or cached" +
                                      (name_fits ? "" : "; its key names another"));
  }
  return {};
}

}  // namespace facet
