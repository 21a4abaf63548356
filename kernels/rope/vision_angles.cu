#include "kernels/base/device.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/rope/vision_angles.h"

namespace facet::kernels {
namespace {

constexpr int kThreads = 256;

__global__ void angles_kernel(VisionAnglesArgs args, std::int64_t count, int pairs) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const std::int64_t patch = i / pairs;
  const int pair = static_cast<int>(i % pairs);
  const int half = pairs / 2;
  const bool by_row = pair < half;
  const int place = by_row ? args.rows[patch] : args.columns[patch];
  const std::int64_t from = static_cast<std::int64_t>(place) * half + (by_row ? pair : pair - half);
  args.cos[i] = args.cos_table[from];
  args.sin[i] = args.sin_table[from];
}

}  // namespace

cudaError_t vision_angles(const VisionAnglesArgs& args, std::int64_t patches, std::int32_t pairs,
                          const Launch& launch) {
  if (patches < 0 || pairs < 2 || pairs % 2 != 0) return cudaErrorInvalidValue;
  const std::int64_t count = patches * pairs;
  return launch_kernel(angles_kernel,
                       dim3(static_cast<unsigned>((count + kThreads - 1) / kThreads)),
                       dim3(kThreads), 0, launch, args, count, static_cast<int>(pairs));
}

}  // namespace facet::kernels
