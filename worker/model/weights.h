// Tensors of a checkpoint as libtorch tensors of their own, converted once.
#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <string>

#include "worker/checkpoint/tensor_table.h"
#include "worker/engine/engine.h"

namespace facet {

class WeightLoader {
 public:
  // `table` and `tick` outlive the loader.
  WeightLoader(const TensorTable& table, at::ScalarType dtype, const ProgressTick& tick)
      : table_(table), dtype_(dtype), tick_(tick) {}

  // A copy in the loader's dtype. The name is in the table: bind_tensors() saw to it.
  at::Tensor get(const std::string& name) const;
  // Several matrices or vectors over one another: one product instead of several.
  at::Tensor stack_rows(std::initializer_list<std::string> names) const;

 private:
  const TensorTable& table_;
  at::ScalarType dtype_;
  const ProgressTick& tick_;
};

// out = x weight^T + bias; bias may be undefined. All 2-D but bias.
void linear_into(at::Tensor& out, const at::Tensor& x, const at::Tensor& weight,
                 const at::Tensor& bias);

}  // namespace facet
