#include "worker/model/parallel_ops.h"

#include <omp.h>

#include <algorithm>

#include "worker/model/host_ops.h"
#include "worker/model/library_linear.h"

namespace facet {
namespace {

// Below this many values a second thread costs more than it saves.
constexpr std::int64_t kGrainValues = 16384;
// The same for multiplications of a product.
constexpr std::int64_t kGrainProducts = 1 << 20;

std::int64_t grain_rows(std::int64_t width) {
  return std::max<std::int64_t>(1, kGrainValues / std::max<std::int64_t>(1, width));
}

template <class T>
GemmTask<T> task_of(const Linear<T>& linear, const T* x, T* out) {
  GemmTask<T> task;
  task.x = x;
  task.x_stride = linear.depth;
  task.panels = linear.weights;
  task.bias = linear.bias;
  task.out = out;
  task.out_stride = linear.columns;
  task.depth = linear.depth;
  task.columns = linear.columns;
  return task;
}

}  // namespace

void parallel_ranges(std::int64_t count, std::int64_t grain, RangeBody body, void* context) {
  if (count <= 0) return;
  const std::int64_t most = (count + grain - 1) / grain;
  const auto threads = static_cast<int>(std::min<std::int64_t>(omp_get_max_threads(), most));
  if (threads <= 1) return body(context, 0, count, 0);
#pragma omp parallel num_threads(threads)
  {
    const std::int64_t part = (count + omp_get_num_threads() - 1) / omp_get_num_threads();
    const std::int64_t begin = part * omp_get_thread_num();
    const std::int64_t end = std::min(count, begin + part);
    if (begin < end) body(context, begin, end, omp_get_thread_num());
  }
}

void parallel_items(std::int64_t count, RangeBody body, void* context) {
  const auto threads = static_cast<int>(std::min<std::int64_t>(omp_get_max_threads(), count));
  if (threads <= 1) {
    for (std::int64_t i = 0; i < count; ++i) body(context, i, i + 1, 0);
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (std::int64_t i = 0; i < count; ++i) body(context, i, i + 1, omp_get_thread_num());
}

template <class T>
void parallel_rms_norm(const T* x, const T* weight, T* out, std::int64_t rows, std::int64_t width,
                       float eps) {
  parallel_ranges(rows, grain_rows(width), [&](std::int64_t begin, std::int64_t end, int) {
    host_ops<T>().rms_norm(x + begin * width, weight, out + begin * width, end - begin, width, eps);
  });
}

template <class T>
void parallel_add_into(T* residual, const T* x, std::int64_t count) {
  parallel_ranges(count, kGrainValues, [&](std::int64_t begin, std::int64_t end, int) {
    host_ops<T>().add_into(residual + begin, x + begin, end - begin);
  });
}

template <class T>
void parallel_silu_mul(const T* gate_up, T* out, std::int64_t rows, std::int64_t width) {
  const std::int64_t grain = grain_rows(width) / 4 + 1;
  parallel_ranges(rows, grain, [&](std::int64_t begin, std::int64_t end, int) {
    host_ops<T>().silu_mul(gate_up + begin * 2 * width, out + begin * width, end - begin, width);
  });
}

template <class T>
void parallel_gelu(T* x, std::int64_t count) {
  parallel_ranges(count, kGrainValues / 4, [&](std::int64_t begin, std::int64_t end, int) {
    host_ops<T>().gelu(x + begin, end - begin);
  });
}

template <class T>
void parallel_rope(T* x, std::int64_t row_stride, const float* cos, const float* sin,
                   std::int64_t rows, std::int64_t heads, std::int64_t head_dim, bool fp32_inside) {
  const std::int64_t half = head_dim / 2;
  const std::int64_t grain = grain_rows(heads * head_dim);
  parallel_ranges(rows, grain, [&](std::int64_t begin, std::int64_t end, int) {
    host_ops<T>().rope(x + begin * row_stride, row_stride, cos + begin * half, sin + begin * half,
                       end - begin, heads, head_dim, fp32_inside);
  });
}

// Each thread then reads all weights, and is worth it from some tiles of rows on.
bool shares_rows(std::int64_t rows) {
  const std::int64_t threads = omp_get_max_threads();
  return threads == 1 || rows >= 2 * kMaxTileRows * threads;
}

template <class T>
void multiply_rows(const Linear<T>& linear, const T* x, T* out, std::int64_t rows, float* scratch) {
  const std::int64_t panels = padded_to_panel(linear.columns) / kPanel;
  host_gemm<T>().multiply(task_of(linear, x, out), 0, rows, 0, panels, scratch);
}

template <class T>
void parallel_linear(const Linear<T>& linear, const T* x, T* out, std::int64_t rows,
                     const Scratch& scratch) {
  if (linear.products == Products::kLibrary) return library_linear(linear, x, out, rows);
  const GemmTask<T> task = task_of(linear, x, out);
  const std::int64_t panels = padded_to_panel(linear.columns) / kPanel;
  const auto multiply = host_gemm<T>().multiply;
  if (shares_rows(rows)) {
    const std::int64_t grain = std::max(
        kMaxTileRows, kGrainProducts / std::max<std::int64_t>(1, panels * kPanel * linear.depth));
    const std::int64_t tiles = (rows + kMaxTileRows - 1) / kMaxTileRows;
    parallel_ranges(tiles, grain / kMaxTileRows, [&](std::int64_t begin, std::int64_t end, int t) {
      multiply(task, begin * kMaxTileRows, std::min(rows, end * kMaxTileRows), 0, panels,
               scratch.of(t));
    });
    return;
  }
  // Two panels are computed together: no thread gets half of such a pair.
  const std::int64_t pairs = (panels + 1) / 2;
  const std::int64_t grain =
      kGrainProducts / std::max<std::int64_t>(1, rows * linear.depth) / (2 * kPanel) + 1;
  parallel_ranges(pairs, grain, [&](std::int64_t begin, std::int64_t end, int t) {
    multiply(task, 0, rows, 2 * begin, std::min(panels, 2 * end), scratch.of(t));
  });
}

#define FACET_INSTANTIATE(T)                                                                     \
  template void parallel_rms_norm<T>(const T*, const T*, T*, std::int64_t, std::int64_t, float); \
  template void parallel_add_into<T>(T*, const T*, std::int64_t);                                \
  template void parallel_silu_mul<T>(const T*, T*, std::int64_t, std::int64_t);                  \
  template void parallel_gelu<T>(T*, std::int64_t);                                              \
  template void parallel_rope<T>(T*, std::int64_t, const float*, const float*, std::int64_t,     \
                                 std::int64_t, std::int64_t, bool);                              \
  template void multiply_rows<T>(const Linear<T>&, const T*, T*, std::int64_t, float*);          \
  template void parallel_linear<T>(const Linear<T>&, const T*, T*, std::int64_t, const Scratch&);
FACET_INSTANTIATE(float)
FACET_INSTANTIATE(Bf16)

}  // namespace facet
