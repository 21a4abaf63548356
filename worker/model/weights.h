// Tensors of a checkpoint in the arena, in the dtype the model computes in and in the layout that
// its products read. Read slice by slice: a slice's pages of the file are let go once it is
// converted, so that loading needs no more memory than the weights and kLoadingWindow.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "worker/checkpoint/tensor_table.h"
#include "worker/engine/engine.h"
#include "worker/model/host_arena.h"
#include "worker/model/host_gemm.h"

namespace facet {

// Who multiplies: the kernels of host_gemm.h, or libtorch where the CPU has units for bf16 that
// only its matrix library uses.
enum class Products { kPanels, kLibrary };

// x w^T + bias.
template <class T>
struct Linear {
  Products products = Products::kPanels;
  const T* weights = nullptr;  // panels, see GemmTask; or rows [columns, depth]
  const T* bias = nullptr;     // [columns], or null
  std::int64_t columns = 0;
  std::int64_t depth = 0;

  // Row `row` of the weights, [depth].
  void copy_row(std::int64_t row, T* to) const;
};

template <class T>
class WeightLoader {
 public:
  using Names = std::initializer_list<std::string>;

  // All outlive the loader.
  WeightLoader(const TensorTable& table, Products products, HostArena& arena,
               const ProgressTick& tick)
      : table_(table), products_(products), arena_(arena), tick_(tick) {}

  // The names are in the table: bind_tensors() saw to it. Any shape, as it is stored.
  const T* values(const std::string& name) { return read_all({name}); }
  // Matrices over one another, and their biases: one product instead of several. A weight of more
  // than two dimensions counts as [first, all others].
  Linear<T> linear(Names weights, Names biases);

 private:
  const TensorView& view(const std::string& name) const;
  const T* read_all(Names names);
  void read(const TensorView& view, std::int64_t first, std::int64_t count, T* to);

  const TensorTable& table_;
  Products products_;
  HostArena& arena_;
  const ProgressTick& tick_;
  std::vector<T> rows_;  // of the panel being laid out
};

}  // namespace facet
