// host_ops.h and host_gemm.h over the threads of ThreadScope. Which thread computes what changes
// no value.
#pragma once

#include <cstdint>
#include <type_traits>

#include "worker/model/weights.h"

namespace facet {

// Floats that each thread may write while it computes.
struct Scratch {
  float* base = nullptr;
  std::int64_t floats = 0;  // of a thread

  float* of(int thread) const { return base + thread * floats; }
};

using RangeBody = void (*)(void* context, std::int64_t begin, std::int64_t end, int thread);

// body(begin, end, thread) over [0, count) in equal parts of at least `grain` items.
void parallel_ranges(std::int64_t count, std::int64_t grain, RangeBody body, void* context);
// The same item by item, each to the thread that is free next: for items of unequal work.
void parallel_items(std::int64_t count, RangeBody body, void* context);

template <class Body>
void parallel_ranges(std::int64_t count, std::int64_t grain, Body&& body) {
  const auto call = [](void* context, std::int64_t begin, std::int64_t end, int thread) {
    (*static_cast<std::remove_reference_t<Body>*>(context))(begin, end, thread);
  };
  parallel_ranges(count, grain, call, static_cast<void*>(&body));
}

template <class Body>
void parallel_items(std::int64_t count, Body&& body) {
  const auto call = [](void* context, std::int64_t begin, std::int64_t, int thread) {
    (*static_cast<std::remove_reference_t<Body>*>(context))(begin, thread);
  };
  parallel_items(count, call, static_cast<void*>(&body));
}

// Dense rows, but for strides that are given.
template <class T>
void parallel_rms_norm(const T* x, const T* weight, T* out, std::int64_t rows, std::int64_t width,
                       float eps);
template <class T>
void parallel_add_into(T* residual, const T* x, std::int64_t count);
template <class T>
void parallel_silu_mul(const T* gate_up, T* out, std::int64_t rows, std::int64_t width);
template <class T>
void parallel_gelu(T* x, std::int64_t count);
// The first `heads` heads of each row are turned in place; cos, sin [rows, head_dim / 2].
template <class T>
void parallel_rope(T* x, std::int64_t row_stride, const float* cos, const float* sin,
                   std::int64_t rows, std::int64_t heads, std::int64_t head_dim, bool fp32_inside);

// Whether a step of so many rows is shared by rows; else by columns.
bool shares_rows(std::int64_t rows);

// out [rows, columns] = x [rows, depth] w^T + bias, with Products::kPanels, in the caller's thread
template <class T>
void multiply_rows(const Linear<T>& linear, const T* x, T* out, std::int64_t rows, float* scratch);

// The same over threads, with either kind of products
template <class T>
void parallel_linear(const Linear<T>& linear, const T* x, T* out, std::int64_t rows,
                     const Scratch& scratch);

}  // namespace facet
