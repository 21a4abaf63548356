#include "kernels/base/device.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/image/image_patches.h"

namespace facet::kernels {
namespace {

constexpr int kThreads = 256;

// One value of an axis: `from` is the axis' first pixel, `step` the bytes between its pixels.
__device__ __forceinline__ int resized(const ResizeAxis& axis, const std::uint8_t* from,
                                       std::int64_t step, int at) {
  const std::int16_t* weight = axis.weights + static_cast<std::int64_t>(at) * axis.num_taps;
  const int count = axis.count[at];
  from += axis.begin[at] * step;
  int sum = 1 << (axis.precision - 1);
  for (int k = 0; k < count; ++k, from += step) sum += weight[k] * *from;
  return min(max(sum >> axis.precision, 0), 255);
}

// Every row of the input to its new width, three bytes a thread.
__global__ void resize_rows_kernel(ImageJob job) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int x = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (x >= job.resized_width) return;
  for (int y = static_cast<int>(blockIdx.y); y < job.height; y += static_cast<int>(gridDim.y)) {
    const std::uint8_t* from = job.pixels + y * job.stride_bytes;
    std::uint8_t* to = job.scratch + (static_cast<std::int64_t>(y) * job.resized_width + x) * 3;
    for (int channel = 0; channel < 3; ++channel)
      to[channel] = static_cast<std::uint8_t>(resized(job.x, from + channel, 3, x));
  }
}

// The columns to their new height, through the table, to the places of the patch. A thread has one
// column of a patch row: neighbours in x write neighbours, and read them.
template <class T>
__global__ void patches_kernel(ImageJob job, PatchSettings settings, const std::uint8_t* pixels,
                               std::int64_t stride_bytes, T* out) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int x = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (x >= job.resized_width) return;
  const int side = settings.patch_size;
  const int merge = settings.merge_size;
  const int blocks_per_row = job.resized_width / side / merge;
  const std::int64_t frame = static_cast<std::int64_t>(side) * side;
  const std::int64_t patch_values = 3 * settings.temporal_patch_size * frame;
  const int patch_x = x / side;
  for (int y = static_cast<int>(blockIdx.y); y < job.resized_height;
       y += static_cast<int>(gridDim.y)) {
    const int patch_y = y / side;
    const std::int64_t block =
        static_cast<std::int64_t>(patch_y / merge) * blocks_per_row + patch_x / merge;
    const std::int64_t patch = (block * merge + patch_y % merge) * merge + patch_x % merge;
    T* const to = out + patch * patch_values + (y % side) * side + x % side;
    for (int channel = 0; channel < 3; ++channel) {
      const std::uint8_t* from = pixels + static_cast<std::int64_t>(x) * 3 + channel;
      const int byte = job.y.begin != nullptr ? resized(job.y, from, stride_bytes, y)
                                              : static_cast<int>(from[y * stride_bytes]);
      const T value = from_float<T>(settings.values[channel * 256 + byte]);
      for (int time = 0; time < settings.temporal_patch_size; ++time)
        to[(channel * settings.temporal_patch_size + time) * frame] = value;
    }
  }
}

// An axis without weights keeps its size; weights are int16 times bytes, summed in int32.
bool is_valid(const ResizeAxis& axis, std::int32_t input, std::int32_t output) {
  if (axis.begin == nullptr) return input == output;
  return axis.count != nullptr && axis.weights != nullptr && axis.num_taps >= 1 &&
         axis.precision >= 1 && axis.precision <= 22;
}

bool is_valid(const ImageJob& job, const PatchSettings& settings) {
  if (settings.patch_size < 1 || settings.temporal_patch_size < 1 || settings.merge_size < 1 ||
      settings.patch_size > 256 || settings.merge_size > 256 || settings.values == nullptr)
    return false;
  const std::int32_t factor = settings.patch_size * settings.merge_size;
  return job.pixels != nullptr && job.height >= 1 && job.width >= 1 && job.resized_height >= 1 &&
         job.resized_width >= 1 && job.resized_height % factor == 0 &&
         job.resized_width % factor == 0 &&
         job.stride_bytes >= 3 * static_cast<std::int64_t>(job.width) &&
         is_valid(job.x, job.width, job.resized_width) &&
         is_valid(job.y, job.height, job.resized_height) &&
         (job.x.begin == nullptr || job.scratch != nullptr);
}

dim3 grid_of(std::int32_t width, std::int32_t rows) {
  return dim3(static_cast<unsigned>((width + kThreads - 1) / kThreads),
              static_cast<unsigned>(rows < 65535 ? rows : 65535));
}

}  // namespace

cudaError_t image_patches(const ImageJob& job, const PatchSettings& settings, void* out,
                          const Launch& launch) {
  if (!is_valid(job, settings) || out == nullptr || static_cast<int>(settings.dtype) > 2)
    return cudaErrorInvalidValue;
  const std::uint8_t* pixels = job.pixels;
  std::int64_t stride_bytes = job.stride_bytes;
  if (job.x.begin != nullptr) {
    const cudaError_t error = launch_kernel(
        resize_rows_kernel, grid_of(job.resized_width, job.height), dim3(kThreads), 0, launch, job);
    if (error != cudaSuccess) return error;
    pixels = job.scratch;
    stride_bytes = 3 * static_cast<std::int64_t>(job.resized_width);
  }
  return with_type_of(settings.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return launch_kernel(patches_kernel<T>, grid_of(job.resized_width, job.resized_height),
                         dim3(kThreads), 0, launch, job, settings, pixels, stride_bytes,
                         static_cast<T*>(out));
  });
}

}  // namespace facet::kernels
