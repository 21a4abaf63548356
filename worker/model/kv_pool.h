// The paged KV pool: one tensor for all layers, reserved at start.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

namespace facet {

struct KvShape {
  std::int64_t layers = 0;
  std::int64_t blocks = 0;
  std::int64_t block_tokens = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
};

class KvPool {
 public:
  KvPool(const KvShape& shape, at::ScalarType dtype);

  const KvShape& shape() const { return shape_; }
  // [blocks, block_tokens, kv_heads, head_dim]
  at::Tensor keys(std::int64_t layer) const { return pool_.select(0, layer).select(0, 0); }
  at::Tensor values(std::int64_t layer) const { return pool_.select(0, layer).select(0, 1); }

  // Row of position `token` when a layer's pool is seen as [blocks * block_tokens, ...].
  std::int64_t slot(std::span<const std::int32_t> blocks, std::int64_t token) const {
    return blocks[static_cast<std::size_t>(token / shape_.block_tokens)] * shape_.block_tokens +
           token % shape_.block_tokens;
  }

 private:
  KvShape shape_;
  at::Tensor pool_;  // [layers, 2, blocks, block_tokens, kv_heads, head_dim]
};

}  // namespace facet
