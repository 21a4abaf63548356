// Failures of the CUDA runtime and of cuBLAS as exceptions: they end at torch_guard(), like those
// of libtorch beside which they occur.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace facet {

class CudaFailure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

[[noreturn]] void fail_cuda(std::string message);
[[noreturn]] void refuse_model(std::string message);  // as a ModelRefusal of torch_guard.h
[[noreturn]] void throw_cuda(const char* call, cudaError_t code);
[[noreturn]] void throw_cublas(const char* call, cublasStatus_t code);

}  // namespace facet

#define FACET_CUDA(call)                                                   \
  do {                                                                     \
    const cudaError_t facet_code = (call);                                 \
    if (facet_code != cudaSuccess) ::facet::throw_cuda(#call, facet_code); \
  } while (0)

#define FACET_CUBLAS(call)                                                             \
  do {                                                                                 \
    const cublasStatus_t facet_code = (call);                                          \
    if (facet_code != CUBLAS_STATUS_SUCCESS) ::facet::throw_cublas(#call, facet_code); \
  } while (0)
