// The paged KV pool in the arena. Within a block, a head's keys lie dimension by dimension and its
// values token by token, as attention reads them (host_gemm.h).
#pragma once

#include <cstdint>
#include <span>

#include "worker/model/host_arena.h"
#include "worker/model/host_gemm.h"

namespace facet {

struct KvShape {
  std::int64_t layers = 0;
  std::int64_t blocks = 0;
  std::int64_t block_tokens = 0;  // a multiple of kPanel
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;

  std::int64_t padded_dim() const { return padded_to_panel(head_dim); }
  std::int64_t head_values() const { return block_tokens * padded_dim(); }  // of a block
  std::int64_t block_values() const { return kv_heads * head_values(); }
  std::int64_t layer_values() const { return blocks * block_values(); }  // keys, or values
};

template <class T>
class KvPool {
 public:
  KvPool(const KvShape& shape, HostArena& arena)
      : shape_(shape), values_(arena.take<T>(2 * shape.layers * shape.layer_values())) {
    FACET_CHECK(shape.block_tokens % kPanel == 0);
  }

  // Writes one token's heads, [kv_heads, head_dim] each.
  void store(std::int64_t layer, std::span<const std::int32_t> blocks, std::int64_t token,
             const T* keys, const T* values) {
    const std::int64_t block = blocks[static_cast<std::size_t>(token / shape_.block_tokens)];
    const std::int64_t place = token % shape_.block_tokens;
    T* to = layer_base(layer) + block * shape_.block_values();
    T* to_values = to + shape_.layer_values() + place * shape_.padded_dim();
    to += place;
    for (std::int64_t head = 0; head < shape_.kv_heads; ++head) {
      for (std::int64_t i = 0; i < shape_.head_dim; ++i) {
        to[i * shape_.block_tokens] = keys[i];
        to_values[i] = values[i];
      }
      keys += shape_.head_dim;
      values += shape_.head_dim;
      to += shape_.head_values();
      to_values += shape_.head_values();
    }
  }

  // One head's keys and values of a sequence with these blocks.
  KvPanels<T> panels(std::int64_t layer, std::int64_t head,
                     std::span<const std::int32_t> blocks) const {
    KvPanels<T> panels;
    panels.keys = layer_base(layer) + head * shape_.head_values();
    panels.values = panels.keys + shape_.layer_values();
    panels.blocks = blocks.data();
    panels.panels_per_block = shape_.block_tokens / kPanel;
    panels.block_stride = shape_.block_values();
    panels.key_step = shape_.block_tokens;
    panels.value_step = shape_.padded_dim();
    return panels;
  }

 private:
  T* layer_base(std::int64_t layer) const { return values_ + 2 * layer * shape_.layer_values(); }

  KvShape shape_;
  T* values_;  // [layers, keys and values, blocks, kv_heads, block_tokens * padded_dim]
};

}  // namespace facet
