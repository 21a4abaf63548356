#include "worker/model/parallel_ops.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "worker/model/host_ops.h"
#include "worker/model/typed.h"

namespace facet {
namespace {

// Below this many values a second thread costs more than it saves.
constexpr std::int64_t kGrainValues = 16384;

std::int64_t grain_rows(std::int64_t width) {
  return std::max<std::int64_t>(1, kGrainValues / std::max<std::int64_t>(1, width));
}

}  // namespace

void parallel_rows(std::int64_t count, std::int64_t grain,
                   const std::function<void(std::int64_t, std::int64_t)>& body) {
  at::parallel_for(0, count, grain, body);
}

template <class T>
void parallel_rms_norm(const at::Tensor& x, const at::Tensor& weight, at::Tensor& out, float eps) {
  const std::int64_t width = x.size(1);
  const T* from = data_of<T>(x);
  const T* w = data_of<T>(weight);
  T* to = data_of<T>(out);
  parallel_rows(x.size(0), grain_rows(width), [&](std::int64_t begin, std::int64_t end) {
    host_ops<T>().rms_norm(from + begin * width, w, to + begin * width, end - begin, width, eps);
  });
}

template <class T>
void parallel_add_into(at::Tensor& residual, const at::Tensor& x) {
  T* to = data_of<T>(residual);
  const T* from = data_of<T>(x);
  parallel_rows(x.numel(), kGrainValues, [&](std::int64_t begin, std::int64_t end) {
    host_ops<T>().add_into(to + begin, from + begin, end - begin);
  });
}

template <class T>
void parallel_silu_mul(const at::Tensor& gate_up, at::Tensor& out) {
  const std::int64_t width = out.size(1);
  const T* from = data_of<T>(gate_up);
  T* to = data_of<T>(out);
  parallel_rows(out.size(0), grain_rows(width) / 4 + 1, [&](std::int64_t begin, std::int64_t end) {
    host_ops<T>().silu_mul(from + begin * 2 * width, to + begin * width, end - begin, width);
  });
}

template <class T>
void parallel_rope(at::Tensor& x, std::int64_t heads, std::int64_t head_dim,
                   const RotaryTable& rotary, bool fp32_inside) {
  const std::int64_t stride = x.stride(0);
  const std::int64_t half = head_dim / 2;
  T* data = data_of<T>(x);
  const auto* cos = rotary.cos.const_data_ptr<float>();
  const auto* sin = rotary.sin.const_data_ptr<float>();
  parallel_rows(x.size(0), grain_rows(heads * head_dim), [&](std::int64_t begin, std::int64_t end) {
    host_ops<T>().rope(data + begin * stride, stride, cos + begin * half, sin + begin * half,
                       end - begin, heads, head_dim, fp32_inside);
  });
}

#define FACET_INSTANTIATE(T)                                                                    \
  template void parallel_rms_norm<T>(const at::Tensor&, const at::Tensor&, at::Tensor&, float); \
  template void parallel_add_into<T>(at::Tensor&, const at::Tensor&);                           \
  template void parallel_silu_mul<T>(const at::Tensor&, at::Tensor&);                           \
  template void parallel_rope<T>(at::Tensor&, std::int64_t, std::int64_t, const RotaryTable&, bool);
FACET_INSTANTIATE(float)
FACET_INSTANTIATE(Bf16)

}  // namespace facet
