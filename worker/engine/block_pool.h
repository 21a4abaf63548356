// The KV pool's blocks: a free list and a reference count each, so that sequences can share blocks
// of a common prefix. Numbers only; the memory is the model runner's.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/base/result.h"

namespace facet {

class BlockPool {
 public:
  BlockPool(std::int32_t num_blocks, std::int32_t block_tokens);

  std::int32_t total() const { return static_cast<std::int32_t>(references_.size()); }
  std::int32_t num_free() const { return static_cast<std::int32_t>(free_.size()); }
  std::int32_t block_tokens() const { return block_tokens_; }
  // Blocks that hold this many token positions.
  std::int32_t blocks_for(std::int64_t tokens) const;

  // Appends `count` blocks with one reference each, or none of them when fewer are free.
  bool acquire(std::int32_t count, std::vector<std::int32_t>& blocks);
  void share(std::int32_t block);                   // one more reference to a block in use
  void release(std::vector<std::int32_t>& blocks);  // one reference less each; empties the list

  // Every block is free exactly once or referenced, and `tables` hold all references there are.
  Status check(std::span<const std::vector<std::int32_t>* const> tables) const;

 private:
  std::int32_t block_tokens_;
  std::vector<std::int32_t> free_;  // the block freed last is taken first: it may be in a cache
  std::vector<std::int32_t> references_;
};

}  // namespace facet
