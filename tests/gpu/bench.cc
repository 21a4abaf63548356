#include "tests/gpu/bench.h"

#include <algorithm>
#include <cstdio>
#include <string_view>

#include "tests/gpu/bench_device.h"

namespace facet::kernels::bench {

Bench::Bench() {
  check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
}
Bench::~Bench() {
  cudaStreamDestroy(stream_);
}

double Bench::time(int count, const std::function<cudaError_t(int)>& launch) {
  constexpr int kReplays = 9;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  check_cuda(launch(0), "first launch");
  check_cuda(cudaStreamSynchronize(stream_), "first launch");
  check_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
  for (int i = 0; i < count; ++i) check_cuda(launch(i), "captured launch");
  check_cuda(cudaStreamEndCapture(stream_, &graph), "end of capture");
  check_cuda(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  check_cuda(cudaEventCreate(&begin), "event");
  check_cuda(cudaEventCreate(&end), "event");
  std::vector<float> times;
  for (int i = 0; i < kReplays + 2; ++i) {
    check_cuda(cudaEventRecord(begin, stream_), "event");
    check_cuda(cudaGraphLaunch(exec, stream_), "replay");
    check_cuda(cudaEventRecord(end, stream_), "event");
    check_cuda(cudaEventSynchronize(end), "replay");
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, begin, end), "event");
    if (i >= 2) times.push_back(milliseconds);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  std::sort(times.begin(), times.end());
  return times[times.size() / 2] * 1000.0 / count;
}

void Bench::add(const std::string& name, double microseconds, double bytes) {
  rows_.push_back({name, microseconds, bytes});
  if (bytes == 0)
    std::printf("%-58s %10.2f us\n", name.c_str(), microseconds);
  else
    std::printf("%-58s %10.2f us %10.2f MB %6.3f TB/s %5.1f %%\n", name.c_str(), microseconds,
                bytes / 1e6, bytes / microseconds / 1e6,
                read_bandwidth_ > 0 ? bytes / microseconds * 1e8 / read_bandwidth_ : 100.0);
  std::fflush(stdout);
}

void Bench::measure_read_bandwidth() {
  const std::size_t bytes = std::size_t{8} << 30;
  const DeviceBytes data(bytes);
  const DeviceBytes sink(4);
  check_cuda(fill_bf16(data.get(), bytes / 2, 1.0F, 1, stream_), "fill");
  const double us = time(2, [&](int) {
    return read_all(data.get(), bytes, static_cast<unsigned*>(sink.get()), stream_);
  });
  read_bandwidth_ = static_cast<double>(bytes) / us * 1e6;
  add("read of 8 GiB, 16-byte loads", us, static_cast<double>(bytes));
}

void Bench::print_json() const {
  std::printf("{\"read_bytes_per_second\": %.4e, \"rows\": [", read_bandwidth_);
  for (std::size_t i = 0; i < rows_.size(); ++i)
    std::printf("%s{\"name\": \"%s\", \"us\": %.3f, \"bytes\": %.0f}", i == 0 ? "" : ", ",
                rows_[i].name.c_str(), rows_[i].microseconds, rows_[i].bytes);
  std::printf("]}\n");
}

Rotation::Rotation(std::size_t bytes_each, float scale, std::size_t least_total)
    : bytes_each_((bytes_each + 255) / 256 * 256),
      copies_(static_cast<int>(std::max<std::size_t>(2, least_total / bytes_each_ + 1))),
      data_(bytes_each_ * static_cast<std::size_t>(copies_)) {
  check_cuda(fill_bf16(data_.get(), data_.bytes() / 2, scale, next_seed(), nullptr), "fill");
  check_cuda(cudaDeviceSynchronize(), "fill");
}
const void* Rotation::at(int i) const {
  return static_cast<const char*>(data_.get()) +
         bytes_each_ * static_cast<std::size_t>(i % copies_);
}

DeviceBytes random_bf16(std::size_t count, float scale) {
  DeviceBytes data(count * 2);
  check_cuda(fill_bf16(data.get(), count, scale, next_seed(), nullptr), "fill");
  check_cuda(cudaDeviceSynchronize(), "fill");
  return data;
}

namespace {

struct Part {
  const char* name;
  void (*run)(Bench&);
};
constexpr Part kParts[] = {{"linear", bench_linear},
                           {"hopper", bench_hopper},
                           {"attention", bench_attention},
                           {"small", bench_small_ops},
                           {"step", bench_step}};

int run(int argc, char** argv) {
  cudaDeviceProp device = {};
  check_cuda(cudaGetDeviceProperties(&device, 0), "device");
  std::printf("%s, %d SMs, L2 %d MB\n", device.name, device.multiProcessorCount,
              device.l2CacheSize >> 20);
  Bench bench;
  bench.measure_read_bandwidth();
  for (const Part& part : kParts) {
    bool wanted = argc == 1;
    for (int i = 1; i < argc; ++i) wanted = wanted || std::string_view(argv[i]) == part.name;
    if (wanted) part.run(bench);
  }
  bench.print_json();
  return 0;
}

}  // namespace
}  // namespace facet::kernels::bench

// kernels_bench [linear] [hopper] [attention] [small] [step]: all parts where none is named.
int main(int argc, char** argv) {
  return facet::kernels::bench::run(argc, argv);
}
