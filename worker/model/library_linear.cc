#include "worker/model/library_linear.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>

#include <cstdlib>
#include <string>

#include "worker/engine/qwen2_5_vl/cpu_memory.h"
#include "worker/model/host_float.h"

namespace facet {
namespace {

template <class T>
constexpr at::ScalarType kTorchType = at::kFloat;
template <>
constexpr at::ScalarType kTorchType<Bf16> = at::kBFloat16;

template <class T>
at::Tensor tensor_of(const T* data, at::IntArrayRef shape) {
  return at::from_blob(const_cast<T*>(data), shape, kTorchType<T>);
}

}  // namespace

// The last ones used stay. Both caches hold them: that of oneDNN and that of libtorch in front of
// it.
void limit_library_code() {
  const std::string count = std::to_string(kLibraryKernels);
  ::setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", count.c_str(), 1);
  ::setenv("LRU_CACHE_CAPACITY", count.c_str(), 1);
}

template <class T>
void library_linear(const Linear<T>& linear, const T* x, T* out, std::int64_t rows) {
  at::Tensor to = tensor_of(out, {rows, linear.columns});
  const at::Tensor from = tensor_of(x, {rows, linear.depth});
  const at::Tensor weight = tensor_of(linear.weights, {linear.columns, linear.depth}).t();
  if (linear.bias != nullptr)
    at::addmm_out(to, tensor_of(linear.bias, {linear.columns}), from, weight);
  else
    at::mm_out(to, from, weight);
}

template void library_linear<float>(const Linear<float>&, const float*, float*, std::int64_t);
template void library_linear<Bf16>(const Linear<Bf16>&, const Bf16*, Bf16*, std::int64_t);

}  // namespace facet
