// Element types that the kernels compute on. Arithmetic is in fp32 in all of them; what is an
// operation of its own in the reference model is rounded to the type.
#pragma once

#include <cstddef>
#include <cstdint>

namespace facet::kernels {

enum class DType : std::uint8_t { kBf16, kFp16, kFp32 };

constexpr std::size_t size_of(DType type) {
  return type == DType::kFp32 ? 4 : 2;
}

}  // namespace facet::kernels
