// Page-locked host memory: what the GPU copies from and to while the host goes on.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "worker/model/cuda/cuda_error.h"

namespace facet {

class PinnedBuffer {
 public:
  explicit PinnedBuffer(std::uint64_t bytes) : bytes_(bytes) {
    FACET_CUDA(cudaHostAlloc(&data_, bytes, cudaHostAllocDefault));
  }
  ~PinnedBuffer() { (void)cudaFreeHost(data_); }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  std::byte* data() const { return static_cast<std::byte*>(data_); }
  std::uint64_t size() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::uint64_t bytes_;
};

class CudaStream {
 public:
  CudaStream() { FACET_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~CudaStream() { (void)cudaStreamDestroy(stream_); }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// A point in a stream, and when the device came to it.
class TimedEvent {
 public:
  TimedEvent() { FACET_CUDA(cudaEventCreate(&event_)); }
  ~TimedEvent() { (void)cudaEventDestroy(event_); }
  TimedEvent(const TimedEvent&) = delete;
  TimedEvent& operator=(const TimedEvent&) = delete;
  void record(cudaStream_t stream) { FACET_CUDA(cudaEventRecord(event_, stream)); }
  // The device has passed both.
  double nanoseconds_since(const TimedEvent& earlier) const {
    float milliseconds = 0.0F;
    FACET_CUDA(cudaEventElapsedTime(&milliseconds, earlier.event_, event_));
    return static_cast<double>(milliseconds) * 1e6;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

// A point in a stream.
class CudaEvent {
 public:
  CudaEvent() { FACET_CUDA(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  ~CudaEvent() { (void)cudaEventDestroy(event_); }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;
  void record(cudaStream_t stream) { FACET_CUDA(cudaEventRecord(event_, stream)); }
  void wait() const { FACET_CUDA(cudaEventSynchronize(event_)); }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace facet
