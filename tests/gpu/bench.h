// Timing of captured graphs, and the rows of the report.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <string>
#include <vector>

#include "kernels/base/launch.h"
#include "tests/gpu/device_data.h"

namespace facet::kernels::bench {

struct Row {
  std::string name;
  double microseconds;
  double bytes;  // the fewest that must be read and written; 0: no bandwidth is told
};

class Bench {
 public:
  Bench();
  ~Bench();
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  // Microseconds of one of `count` launches captured into one graph: the median of several replays.
  // launch(i) puts the i-th on stream().
  double time(int count, const std::function<cudaError_t(int)>& launch);
  void add(const std::string& name, double microseconds, double bytes);

  cudaStream_t stream() const { return stream_; }
  void measure_read_bandwidth();
  void print_json() const;

 private:
  cudaStream_t stream_ = nullptr;
  double read_bandwidth_ = 0;  // bytes a second
  std::vector<Row> rows_;
};

// Copies of a matrix, as many as it takes to be read from memory and not from the L2 cache.
class Rotation {
 public:
  Rotation(std::size_t bytes_each, float scale, std::size_t least_total = 600U << 20);
  const void* at(int i) const;

 private:
  std::size_t bytes_each_;
  int copies_;
  DeviceBytes data_;
};
DeviceBytes random_bf16(std::size_t count, float scale);

void bench_linear(Bench& bench);
void bench_hopper(Bench& bench);
void bench_attention(Bench& bench);
void bench_small_ops(Bench& bench);
void bench_step(Bench& bench);

}  // namespace facet::kernels::bench
