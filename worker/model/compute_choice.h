// Which number type a model runs in: what the configuration asks for, where the device and the
// model's family take it.
#pragma once

#include <string_view>

#include "common/base/result.h"
#include "common/config/config.h"
#include "worker/engine/compute_type.h"

namespace facet {

// What a family says of itself.
struct FamilyTypes {
  std::string_view family;      // as model_type spells it
  std::string_view fp16_fault;  // why it does not run in fp16; empty: it does
};

struct TypeDevice {
  bool is_gpu = false;
  bool has_bf16 = false;  // it multiplies bf16 itself
};

// kUnsupported, with what to set instead: fp16 on a CPU, or in a family that does not run in it.
Result<ComputeType> choose_compute_type(Dtype asked, const TypeDevice& device,
                                        const FamilyTypes& family);

}  // namespace facet
