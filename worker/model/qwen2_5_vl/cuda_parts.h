// What the parts of a model on one GPU share.
#pragma once

#include "kernels/norm/rms_norm.h"
#include "worker/model/cuda/cuda_error.h"
#include "worker/model/cuda/matmul.h"
#include "worker/model/qwen2_5_vl/cuda_weights.h"

namespace facet {

struct CudaParts {
  DType type = DType::kBf16;
  cudaStream_t stream = nullptr;
  Matmul* matmul = nullptr;
  void* activations = nullptr;  // language model and encoder take turns

  // Kernels of this tree may start while the one before them ends: each waits by itself.
  kernels::Launch launch() const { return {stream, true}; }

  // out [rows, weight.rows] = x [rows, weight.columns] weight^T + bias; all dense.
  void linear(const void* x, const DeviceMatrix& weight, const DeviceMatrix* bias, void* out,
              std::int64_t rows) const {
    matmul->run({rows, weight.rows, weight.columns, bias != nullptr}, x, weight.data,
                bias != nullptr ? bias->data : nullptr, out, stream);
  }

  // out [rows, weight.rows / 2] = silu(gate) * up of the product with [gate; up]; `product`
  // [rows, weight.rows] is room for it.
  void gated(const void* x, const DeviceMatrix& weight, const DeviceMatrix* bias, void* product,
             void* out, std::int64_t rows) const {
    matmul->run_gated({rows, weight.rows, weight.columns, bias != nullptr}, x, weight.data,
                      bias != nullptr ? bias->data : nullptr, product, out, stream);
  }

  kernels::RmsNormShape norm_shape(std::int64_t rows, std::int64_t width, double eps) const {
    kernels::RmsNormShape shape;
    shape.rows = rows;
    shape.width = static_cast<std::int32_t>(width);
    shape.eps = static_cast<float>(eps);
    shape.dtype = type;
    return shape;
  }
  void norm(const kernels::RmsNormShape& shape, const void* x, const DeviceMatrix& weight,
            void* out) const {
    FACET_CUDA(kernels::rms_norm(shape, x, weight.data, out, launch()));
  }
  // hidden += x; out = norm(hidden).
  void add_norm(const kernels::RmsNormShape& shape, void* hidden, const void* x,
                const DeviceMatrix& weight, void* out) const {
    FACET_CUDA(kernels::add_rms_norm(shape, hidden, x, weight.data, out, launch()));
  }

  // `count` elements further.
  void* at(void* data, std::int64_t count) const {
    return static_cast<std::byte*>(data) + count * value_bytes(type);
  }
};

}  // namespace facet
