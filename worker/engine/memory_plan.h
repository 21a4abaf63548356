// What a worker's memory goes to, by name, before anything is loaded; and what fits into it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "worker/engine/compute_type.h"
#include "worker/engine/device.h"

namespace facet {

struct MemoryItem {
  std::string name;  // "weights", "kv_pool", ...
  std::uint64_t bytes = 0;
  std::string note;  // how it comes about
};

std::uint64_t sum_bytes(std::span<const MemoryItem> items);

struct MemoryPlan {
  std::string model;  // directory name
  std::string family;
  ComputeType type = ComputeType::kFp32;
  Device device;
  std::uint64_t budget_bytes = 0;
  std::vector<MemoryItem> items;

  // What fits.
  std::int32_t kv_blocks = 0;
  std::int32_t kv_block_tokens = 0;
  std::uint64_t kv_bytes_per_token = 0;
  std::int32_t max_lanes = 0;
  std::int32_t max_model_len = 0;  // tokens of prompt and answer
  std::int32_t max_step_tokens = 0;
  std::int32_t image_tokens_max = 0;  // of one image
  std::int64_t image_pixels_max = 0;  // after resizing; larger images are refused or shrunk before
  std::int32_t encoder_rows = 0;
  int threads = 0;

  std::uint64_t used_bytes() const;
  std::int64_t kv_tokens() const { return std::int64_t{kv_blocks} * kv_block_tokens; }
  // Sequences of `tokens` positions each that run at once.
  std::int32_t lanes_at(std::int32_t tokens) const;
};

// "1.50 GB", decimal units as in the configuration.
std::string bytes_text(std::uint64_t bytes);

}  // namespace facet
