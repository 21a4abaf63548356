// The tensors of Qwen2.5-VL (names of transformers 5; the published spelling maps onto them).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "worker/checkpoint/qwen_config.h"
#include "worker/checkpoint/tensor_table.h"

namespace facet {

std::vector<TensorSpec> qwen_tensor_specs(const QwenConfig& config);

// visual.* -> model.visual.*; model.* -> model.language_model.*; the rest as it is.
std::string qwen_canonical_name(std::string_view stored);

// bind_tensors for this family. A stored lm_head.weight is ignored where embeddings are tied.
Result<TensorTable> bind_qwen_tensors(const Checkpoint& checkpoint, const QwenConfig& config);

}  // namespace facet
