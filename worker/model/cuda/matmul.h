// Matrix products of the model: row-major out[M, N] = x[M, K] weight[N, K]^T (+ bias[N]). By
// kernels/linear where they are faster (on Hopper), else by cuBLASLt. Accumulates in fp32; fp32
// operands are multiplied in full fp32 (no tf32). Nothing is allocated while it runs: the workspace
// is given. Capturable.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <compare>
#include <cstdint>
#include <map>
#include <memory>

#include "kernels/base/dtype.h"
#include "kernels/linear/stream_linear.h"

namespace facet {

using kernels::DType;

constexpr std::int64_t value_bytes(DType type) {
  return static_cast<std::int64_t>(kernels::size_of(type));
}

// Operands are dense.
struct MatmulShape {
  std::int64_t rows = 0;     // M
  std::int64_t outputs = 0;  // N
  std::int64_t inner = 0;    // K
  bool bias = false;

  auto operator<=>(const MatmulShape&) const = default;
};

class Matmul {
 public:
  // Hopper's kernels want 32 MiB for split-K and their descriptors (cuBLAS documentation,
  // "cublasSetWorkspace").
  static constexpr std::uint64_t kLibraryBytes = 32ull << 20;
  static constexpr std::uint64_t kWorkspaceBytes =
      kLibraryBytes + kernels::kStreamLinearCounterBytes;

  // `workspace` of kWorkspaceBytes on the device outlives this. Throws CudaFailure.
  Matmul(DType type, void* workspace);
  ~Matmul();
  Matmul(const Matmul&) = delete;
  Matmul& operator=(const Matmul&) = delete;

  // Throws CudaFailure. All pointers on the device, 16-byte aligned.
  void run(const MatmulShape& shape, const void* x, const void* weight, const void* bias, void* out,
           cudaStream_t stream);
  // out[M, N / 2] = round(silu(gate)) * up of the product's two halves [gate; up], each rounded.
  // `product` [M, N]: room for them.
  void run_gated(const MatmulShape& shape, const void* x, const void* weight, const void* bias,
                 void* product, void* out, cudaStream_t stream);

 private:
  struct Plan;
  const Plan& plan_for(const MatmulShape& shape);
  bool stream(const MatmulShape& shape, kernels::LinearEpilogue epilogue, const void* x,
              const void* weight, const void* bias, void* out, cudaStream_t stream) const;

  DType type_;
  void* workspace_;
  cublasLtHandle_t handle_ = nullptr;
  std::map<MatmulShape, std::unique_ptr<Plan>> plans_;
};

}  // namespace facet
