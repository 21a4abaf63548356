#include "worker/model/kv_pool.h"

#include <ATen/ops/zeros.h>

namespace facet {

// Zeros, so that every page is resident before the first request needs it.
KvPool::KvPool(const KvShape& shape, at::ScalarType dtype)
    : shape_(shape),
      pool_(at::zeros(
          {shape.layers, 2, shape.blocks, shape.block_tokens, shape.kv_heads, shape.head_dim},
          dtype)) {
  pool_.zero_();  // zeros() may hand out untouched pages
}

}  // namespace facet
