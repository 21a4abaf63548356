// Qwen2.5-VL behind the ModelRunner seam.
#pragma once

#include <memory>
#include <vector>

#include "common/base/result.h"
#include "worker/checkpoint/qwen_config.h"
#include "worker/checkpoint/tensor_table.h"
#include "worker/engine/device.h"
#include "worker/engine/model_runner.h"
#include "worker/image/preprocessor_config.h"

namespace facet {

struct RunnerOptions {
  RunnerShape shape;  // vocab_size is filled in from the configuration
  QwenImageSettings image_settings;
  std::int32_t context_tokens = 0;  // of one sequence: the longest prompt and answer
  std::int32_t image_tokens = 0;    // of the largest image
  bool bf16 = false;                // else fp32
  bool library_products = false;    // see Products
  int threads = 1;
  std::vector<Device> devices{Device{}};
  LogitsTap logits_tap;  // empty: nobody looks
};

// Loads weights and reserves all memory. kUnsupported: devices other than one CPU; kExhausted: not
// enough host memory. `tensors` is needed during the call only.
Result<std::unique_ptr<ModelRunner>> make_qwen_runner(const QwenConfig& config,
                                                      const TensorTable& tensors,
                                                      const RunnerOptions& options,
                                                      const ProgressTick& tick);

}  // namespace facet
