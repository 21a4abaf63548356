// Holds libtorch to its word: while a step runs, it may not allocate tensors of its own, since all
// memory was reserved at start.
#pragma once

#include <cstdint>

namespace facet {

// Once per process, before the first seal: from then on libtorch's host tensors are counted.
void install_torch_seal();

// As long as one lives, an allocation of a tensor's memory throws, in any thread.
class TorchSeal {
 public:
  TorchSeal();
  ~TorchSeal();
  TorchSeal(const TorchSeal&) = delete;
  TorchSeal& operator=(const TorchSeal&) = delete;
};

std::uint64_t torch_allocations();  // of this process so far; refused ones included

}  // namespace facet
