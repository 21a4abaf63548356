// The vision tower of Qwen2.5-VL: patches in, one row per image token out. Images of different
// sizes share a pass; a token's values depend on its own image alone, bit for bit
// (Products::kPanels).
#pragma once

#include <cstdint>
#include <vector>

#include "worker/checkpoint/qwen_config.h"
#include "worker/engine/model_runner.h"
#include "worker/engine/qwen2_5_vl/cpu_memory.h"
#include "worker/engine/qwen2_5_vl/vision_layout.h"
#include "worker/model/layer_rows.h"
#include "worker/model/parallel_ops.h"
#include "worker/model/rotary.h"
#include "worker/model/weights.h"

namespace facet {

template <class T>
class QwenVision {
 public:
  // Takes its weights and buffers from the loader's arena.
  QwenVision(const QwenConfig& config, const CpuLimits& limits, WeightLoader<T> weights,
             HostArena& arena, const Scratch& scratch);

  // A pass: begin(), add() while it says yes, run(). Sides in patches.
  void begin();
  // Where the image's patch values go, [grid_height * grid_width, patch values], in the order of
  // arrival (by merged cell); or null: the pass is full. An empty pass takes the largest image.
  // out [image tokens, out_hidden_size]: where its tokens will go.
  float* add(std::int32_t grid_height, std::int32_t grid_width, T* out);
  // The image added last takes no part.
  void drop_last();
  bool empty() const { return images_.empty(); }
  std::int64_t num_patches() const { return total_; }
  void run(const ProgressTick& tick);  // ticks once per block

 private:
  struct Image {
    std::int32_t grid_height, grid_width;
    T* out;
    std::int64_t first;  // patch
    std::int64_t first_panel;
  };
  // Rows that attend to one another.
  struct Window {
    std::int64_t first;
    std::int64_t count;
  };

  void load(WeightLoader<T>& weights);
  void lay_out();
  void embed_patches();
  LayerRows<T> layer_rows() const;
  void run_block(const LayerWeights<T>& block, bool full_attention);
  void attend_windows();
  void attend_images();
  AttentionTask<T> task_of(const Window& window, std::int64_t head, const KvPanels<T>& kv) const;
  void fill_panels(const Window& window, std::int64_t first_row, std::int64_t rows,
                   std::int64_t head, T* keys, T* values) const;
  void merge();

  QwenVisionConfig config_;
  std::int64_t capacity_;  // patches, each image's rounded up to panels
  Scratch scratch_;
  VisionRope rope_;
  Linear<T> patch_;  // the Conv3d's stride is its kernel
  std::vector<LayerWeights<T>> blocks_;
  const T* merger_norm_ = nullptr;
  Linear<T> merger0_, merger2_;
  // Activations; rows are patches in the tower's order.
  float* values_;
  T* hidden_;
  T* normed_;
  T* attended_;
  T* qkv_;
  T* gate_up_;
  T* inner_;
  T* merged_;  // [cells, out_hidden_size]
  float* cos_;
  float* sin_;
  T* keys_;  // of full attention: [heads, panels, padded dim, kPanel]
  T* head_values_;
  std::int64_t total_ = 0;
  std::int64_t panels_ = 0;
  std::vector<Image> images_;
  std::vector<Window> windows_;
  VisionLayout layout_;
};

}  // namespace facet
