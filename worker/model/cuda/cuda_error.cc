#include "worker/model/cuda/cuda_error.h"

#include <utility>

#include "worker/model/torch_guard.h"

namespace facet {

void fail_cuda(std::string message) {
  throw CudaFailure(std::move(message));
}

void refuse_model(std::string message) {
  throw ModelRefusal(std::move(message));
}

void throw_cuda(const char* call, cudaError_t code) {
  fail_cuda(std::string(call) + ": " + cudaGetErrorString(code));
}

void throw_cublas(const char* call, cublasStatus_t code) {
  fail_cuda(std::string(call) + ": " + cublasLtGetStatusString(code));
}

}  // namespace facet
