// The number type that a model's weights, activations and KV cache have while it runs.
#pragma once

#include <cstdint>
#include <string_view>

namespace facet {

enum class ComputeType : std::uint8_t { kFp32, kBf16, kFp16 };

constexpr std::string_view name_of(ComputeType type) {
  switch (type) {
    case ComputeType::kBf16:
      return "bf16";
    case ComputeType::kFp16:
      return "fp16";
    case ComputeType::kFp32:
      break;
  }
  return "fp32";
}

constexpr std::int64_t bytes_of(ComputeType type) {
  return type == ComputeType::kFp32 ? 4 : 2;
}

}  // namespace facet
