// Images on their way to a vision tower: pixels are copied to page-locked memory, and the GPU
// resizes, normalizes and cuts them into patches while the host goes on.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/image/image_patches.h"
#include "worker/image/preprocessor_config.h"
#include "worker/image/qwen_patches.h"
#include "worker/image/resize_weights.h"
#include "worker/image/rgb_image.h"
#include "worker/model/cuda/cutter.h"
#include "worker/model/cuda/pinned.h"
#include "worker/model/cuda/step_block.h"

namespace facet {

struct ImageUploadRegions {
  explicit ImageUploadRegions(Cutter& cutter);
  std::byte* pixels;   // [kBytes]: an image, and the weights of its resize
  std::byte* resized;  // [kBytes]: the same with its rows resized
  float* values;       // [3, 256]
};

class ImageUpload {
 public:
  // Pixels of the images of one pass, and of one image between its two resizes: photographs of 22
  // megapixels. Larger images are cut into patches on the host.
  static constexpr std::uint64_t kBytes = 64ULL << 20;
  // Weights of a resize: those of the longest strip that a request may have (100,000 pixels at 50
  // megapixels and a ratio of 200) take 2.4 MB.
  static constexpr std::uint64_t kWeightBytes = 4ULL << 20;

  // `region` holds cut_bytes<ImageUploadRegions>().
  ImageUpload(const QwenImageSettings& settings, kernels::DType type, void* region,
              cudaStream_t stream);

  // The pass before the last one has been copied; what it used is free again.
  void begin_pass();
  // Whether the pass has room for its pixels. The first image of a pass always has.
  bool has_room(const RgbView& image) const;
  // Puts the patches of an image on the stream: [patches, patch_floats] to `out` on the device. The
  // pixels are not read any more after the return.
  void add(const RgbView& image, const QwenImagePlan& plan, void* out);
  void end_pass();

 private:
  struct Slot {
    PinnedBuffer pixels{kBytes};
    CudaEvent copied;
  };
  // The next bytes of the slot, and where they will lie on the device.
  StepArray<std::byte> stage(std::uint64_t bytes);
  template <class T>
  const T* send(const std::vector<T>& values);
  void send(const StepArray<std::byte>& staged) const;
  kernels::ResizeAxis send_axis(std::int64_t input, std::int64_t output);
  void add_on_device(const RgbView& image, const QwenImagePlan& plan, void* out);
  void add_on_host(const RgbView& image, const QwenImagePlan& plan, void* out);

  QwenImageSettings settings_;
  kernels::PatchSettings patches_;
  ImageUploadRegions device_;
  cudaStream_t stream_;
  Slot slots_[2];
  int slot_ = 0;
  std::uint64_t used_ = 0;  // of the slot's pixels
};

}  // namespace facet
