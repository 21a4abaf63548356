// cuBLAS as the control of a bench. The few functions that are needed, by name, so that nothing
// links it.
#pragma once

#include <cublas_v2.h>
#include <dlfcn.h>

#include "tests/gpu/device_data.h"

namespace facet::kernels::bench {

using GemmEx = cublasStatus_t (*)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int,
                                  int, const void*, const void*, cudaDataType, int, const void*,
                                  cudaDataType, int, const void*, void*, cudaDataType, int,
                                  cublasComputeType_t, cublasGemmAlgo_t);

class CublasControl {
 public:
  explicit CublasControl(cudaStream_t stream) {
    for (const char* name : {"libcublas.so.13", "libcublas.so.12", "libcublas.so"})
      if (library_ == nullptr) library_ = dlopen(name, RTLD_NOW);
    if (library_ == nullptr) return;
    gemm_ = reinterpret_cast<GemmEx>(dlsym(library_, "cublasGemmEx"));
    const auto create =
        reinterpret_cast<decltype(&cublasCreate_v2)>(dlsym(library_, "cublasCreate_v2"));
    const auto set_stream =
        reinterpret_cast<decltype(&cublasSetStream_v2)>(dlsym(library_, "cublasSetStream_v2"));
    const auto set_workspace = reinterpret_cast<decltype(&cublasSetWorkspace_v2)>(
        dlsym(library_, "cublasSetWorkspace_v2"));
    if (gemm_ == nullptr || create == nullptr || create(&handle_) != CUBLAS_STATUS_SUCCESS) return;
    set_stream(handle_, stream);
    set_workspace(handle_, workspace_.get(), workspace_.bytes());
    ready_ = true;
  }
  bool ready() const { return ready_; }
  cudaError_t run(int m, int n, int k, const void* x, const void* w, void* out) const {
    const float one = 1.0F;
    const float zero = 0.0F;
    const auto status =
        gemm_(handle_, CUBLAS_OP_T, CUBLAS_OP_N, n, m, k, &one, w, CUDA_R_16BF, k, x, CUDA_R_16BF,
              k, &zero, out, CUDA_R_16BF, n, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    return status == CUBLAS_STATUS_SUCCESS ? cudaSuccess : cudaErrorUnknown;
  }

 private:
  DeviceBytes workspace_{32U << 20};
  void* library_ = nullptr;
  cublasHandle_t handle_ = nullptr;
  GemmEx gemm_ = nullptr;
  bool ready_ = false;
};

}  // namespace facet::kernels::bench
