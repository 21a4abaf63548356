#include "worker/model/cuda/torch_arena.h"

#include <c10/util/Exception.h>
#include <torch/csrc/cuda/CUDAPluggableAllocator.h>

#include <memory>

#include "common/base/check.h"

namespace facet {
namespace {

// Lives as long as the process: libtorch gives blocks back until its last destructor.
FirstFit* g_arena = nullptr;

void* allocate(std::size_t bytes, int, cudaStream_t) {
  if (bytes == 0) return nullptr;
  void* block = g_arena->allocate(bytes);
  TORCH_CHECK_WITH(OutOfMemoryError, block != nullptr, "torch arena: needs ", bytes,
                   " bytes, the largest gap has ", g_arena->largest_gap(), " of ", g_arena->size());
  return block;
}

void release(void* block, std::size_t, int, cudaStream_t) {
  if (block != nullptr) g_arena->release(block);
}

}  // namespace

void install_torch_arena(void* base, std::uint64_t bytes) {
  namespace pluggable = torch::cuda::CUDAPluggableAllocator;
  if (g_arena != nullptr) {  // a second model in one process, after the first one's end
    FACET_CHECK(g_arena->in_use() == 0);
    *g_arena = FirstFit(static_cast<std::byte*>(base), bytes);
    return;
  }
  g_arena = new FirstFit(static_cast<std::byte*>(base), bytes);
  pluggable::changeCurrentAllocator(pluggable::createCustomAllocator(allocate, release));
}

}  // namespace facet
