// host_ops.h over libtorch's threads. Tensors are dense 2-D of T, rows by width.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

#include "worker/model/rotary.h"

namespace facet {

// body(begin, end) over [0, count) on libtorch's threads; at least `grain` items a thread.
void parallel_rows(std::int64_t count, std::int64_t grain,
                   const std::function<void(std::int64_t, std::int64_t)>& body);

template <class T>
void parallel_rms_norm(const at::Tensor& x, const at::Tensor& weight, at::Tensor& out, float eps);

template <class T>
void parallel_add_into(at::Tensor& residual, const at::Tensor& x);

template <class T>
void parallel_silu_mul(const at::Tensor& gate_up, at::Tensor& out);

// The first `heads` heads of each row are turned in place.
template <class T>
void parallel_rope(at::Tensor& x, std::int64_t heads, std::int64_t head_dim,
                   const RotaryTable& rotary, bool fp32_inside);

}  // namespace facet
