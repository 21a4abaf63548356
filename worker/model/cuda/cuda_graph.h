// A run of kernels captured once and launched as a whole.
#pragma once

#include <cuda_runtime_api.h>

#include <utility>

#include "worker/model/cuda/cuda_error.h"

namespace facet {

// A stream that records. Ended in any case: a stream left capturing would be of no use.
class StreamCapture {
 public:
  explicit StreamCapture(cudaStream_t stream) : stream_(stream) {
    FACET_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  }
  ~StreamCapture() {
    if (!has_ended_) (void)cudaStreamEndCapture(stream_, &graph_);
    if (graph_ != nullptr) (void)cudaGraphDestroy(graph_);
  }
  StreamCapture(const StreamCapture&) = delete;
  StreamCapture& operator=(const StreamCapture&) = delete;

  cudaGraph_t end() {
    has_ended_ = true;
    FACET_CUDA(cudaStreamEndCapture(stream_, &graph_));
    return graph_;
  }

 private:
  cudaStream_t stream_;
  cudaGraph_t graph_ = nullptr;
  bool has_ended_ = false;
};

class CudaGraph {
 public:
  // What enqueue() puts on `stream` is recorded, not carried out. It must have run once before, so
  // that everything that is loaded or chosen at the first use is there. Throws CudaFailure.
  template <class Enqueue>
  CudaGraph(cudaStream_t stream, const Enqueue& enqueue) {
    StreamCapture capture(stream);
    enqueue();
    FACET_CUDA(cudaGraphInstantiate(&exec_, capture.end(), 0));
    FACET_CUDA(cudaGraphUpload(exec_, stream));
  }
  ~CudaGraph() {
    if (exec_ != nullptr) (void)cudaGraphExecDestroy(exec_);
  }
  CudaGraph(CudaGraph&& other) noexcept : exec_(std::exchange(other.exec_, nullptr)) {}
  CudaGraph& operator=(CudaGraph&&) = delete;

  void launch(cudaStream_t stream) const { FACET_CUDA(cudaGraphLaunch(exec_, stream)); }

 private:
  cudaGraphExec_t exec_ = nullptr;
};

}  // namespace facet
