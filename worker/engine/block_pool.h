// The KV pool's blocks. Each is free, or leased by as many holders as it has references, or cached:
// held by nobody, but with content that a later sequence may begin with. Numbers only; the memory
// is the model runner's.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <unordered_map>
#include <vector>

#include "common/base/result.h"
#include "worker/engine/content_key.h"

namespace facet {

class BlockPool {
 public:
  BlockPool(std::int32_t num_blocks, std::int32_t block_tokens);

  std::int32_t total() const { return static_cast<std::int32_t>(blocks_.size()); }
  std::int32_t num_cached() const { return static_cast<std::int32_t>(unused_.size()); }
  // Blocks that acquire() could give: free and cached ones.
  std::int32_t num_available() const {
    return static_cast<std::int32_t>(free_.size()) + num_cached();
  }
  std::int32_t block_tokens() const { return block_tokens_; }
  // Blocks that hold this many token positions.
  std::int32_t blocks_for(std::int64_t tokens) const;

  // Appends `count` blocks with one reference each, or none of them when fewer are available. Takes
  // free ones first, then the cached ones that were released longest ago.
  bool acquire(std::int32_t count, std::vector<std::int32_t>& blocks);
  // One reference less each; empties the list. What is named by remember() stays as cached, its end
  // longer unused than its beginning.
  void release(std::vector<std::int32_t>& blocks);

  // Names the content of a leased block. A key that another block has already stays that one's.
  void remember(std::int32_t block, const ContentKey& key);
  // Appends the blocks of these keys from the first on, up to the first that is not there, with one
  // more reference each.
  void adopt(std::span<const ContentKey> keys, std::vector<std::int32_t>& blocks);
  // The content is not to be used again; holders keep their blocks.
  void forget(std::span<const ContentKey> keys);

  // Every block is free, leased or cached, once; `tables` hold all references there are.
  Status check(std::span<const std::vector<std::int32_t>* const> tables) const;

 private:
  struct Block {
    std::int32_t references = 0;
    ContentKey key;                  // none: not remembered
    std::uint64_t unused_since = 0;  // key in unused_, while cached
  };
  Block& at(std::int32_t block) { return blocks_[static_cast<std::size_t>(block)]; }
  std::int32_t evict();

  std::int32_t block_tokens_;
  std::vector<Block> blocks_;
  std::vector<std::int32_t> free_;  // the block freed last is taken first: it may be in a cache
  std::unordered_map<ContentKey, std::int32_t> by_key_;
  std::map<std::uint64_t, std::int32_t> unused_;  // cached ones, longest unused first
  std::uint64_t next_use_ = 0;
};

}  // namespace facet
