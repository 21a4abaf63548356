// Holds libtorch to the plan: while a step runs, its tensors' memory comes from a piece of the
// arena, and a tensor that finds no room there throws, with what it needs and what there is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace facet {

// Once per process, before the first seal.
void install_torch_seal();

// For as long as it lives; one at a time in a process, and no tensor made under it outlives it.
class TorchSeal {
 public:
  // `workspace` begins at a line of the cache; empty: nothing may be allocated at all.
  explicit TorchSeal(std::span<std::byte> workspace);
  ~TorchSeal();
  TorchSeal(const TorchSeal&) = delete;
  TorchSeal& operator=(const TorchSeal&) = delete;
};

// Tensors that got memory from elsewhere than a workspace, in this process so far; those that a
// seal refused included.
std::uint64_t torch_allocations();

}  // namespace facet
