// Matrix products of the model on cuBLASLt: row-major out[M, N] = x[M, K] weight[N, K]^T (+
// bias[N]). Accumulates in fp32; fp32 operands are multiplied in full fp32 (no tf32). Nothing is
// allocated while it runs: the workspace is given. Capturable.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <span>

#include "kernels/base/dtype.h"

namespace facet {

using kernels::DType;

constexpr std::int64_t value_bytes(DType type) {
  return static_cast<std::int64_t>(kernels::size_of(type));
}

struct MatmulShape {
  std::int64_t rows = 0;        // M
  std::int64_t outputs = 0;     // N
  std::int64_t inner = 0;       // K
  std::int64_t x_stride = 0;    // elements between rows of x; at least K
  std::int64_t out_stride = 0;  // and of out; at least N
  bool bias = false;

  auto key() const {
    return std::array{rows, outputs, inner, x_stride, out_stride, static_cast<std::int64_t>(bias)};
  }
};

class Matmul {
 public:
  // Hopper's kernels want 32 MiB for split-K and their descriptors (cuBLAS documentation,
  // "cublasSetWorkspace").
  static constexpr std::uint64_t kWorkspaceBytes = 32ull << 20;

  // `workspace` of kWorkspaceBytes on the device outlives this.
  Matmul(DType type, void* workspace);
  ~Matmul();
  Matmul(const Matmul&) = delete;
  Matmul& operator=(const Matmul&) = delete;

  // Throws CudaFailure. All pointers on the device, 16-byte aligned.
  void run(const MatmulShape& shape, const void* x, const void* weight, const void* bias, void* out,
           cudaStream_t stream);

  // Times what cuBLASLt proposes for the shape on these operands and keeps the fastest. Blocks.
  // `weights` are rotated so that none is read from the cache.
  void tune(const MatmulShape& shape, const void* x, std::span<const void* const> weights,
            const void* bias, void* out, cudaStream_t stream);

 private:
  struct Plan;
  Plan& plan_for(const MatmulShape& shape);
  void launch(const Plan& plan, const cublasLtMatmulAlgo_t& algo, const void* x, const void* weight,
              const void* bias, void* out, cudaStream_t stream);

  DType type_;
  void* workspace_;
  cublasLtHandle_t handle_ = nullptr;
  std::map<std::array<std::int64_t, 6>, std::unique_ptr<Plan>> plans_;
};

}  // namespace facet
