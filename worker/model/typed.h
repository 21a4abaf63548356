// Between libtorch's dtypes and the element types of host_ops.h.
#pragma once

#include <ATen/core/Tensor.h>

#include "worker/model/host_float.h"

namespace facet {

template <class T>
inline constexpr at::ScalarType kTorchType = at::kFloat;
template <>
inline constexpr at::ScalarType kTorchType<Bf16> = at::kBFloat16;

}  // namespace facet
