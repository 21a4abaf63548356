// Values as a checkpoint stores them into the type that a GPU computes in, by all threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "kernels/base/dtype.h"
#include "worker/checkpoint/safetensors.h"

namespace facet {

inline constexpr double kLargestFp16 = 65504.0;

// A value of the checkpoint that is finite and would not be in fp16.
struct UnfitValue {
  std::int64_t index = 0;
  float value = 0.0F;
};

// `stored`: F32, BF16 or F16; neither side need be aligned. To nearest even, as torch's .to(): what
// fp16 has no normal number for becomes a subnormal one or zero. The first value that does not fit
// fp16, with the rest converted all the same; infinities and what is not a number stay what they
// are.
std::optional<UnfitValue> convert_values(TensorDtype stored, const std::byte* from,
                                         kernels::DType type, std::byte* to, std::int64_t count);

}  // namespace facet
