// The two passes of a separable resize over RGB8 rows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "worker/image/resize_weights.h"

namespace facet {

// The vector code reads pixels that a zero weight then drops, and writes four bytes a pixel.
inline constexpr std::size_t kRowPaddingBytes = 32;

// The passes of one kind of CPU. All kinds give the same bytes: they compute in integers.
struct ResizePasses {
  // One output row of weights.begin.size() pixels from one input row. Both have kRowPaddingBytes
  // of room behind their last pixel.
  void (*row)(const std::uint8_t* input, const ResizeWeights& weights, std::uint8_t* output);

  // row_bytes of output row `y`; `input` is the first byte of the first row.
  void (*column)(const std::uint8_t* input, std::size_t stride_bytes, std::size_t row_bytes,
                 const ResizeWeights& weights, std::int64_t y, std::uint8_t* output);
};

const ResizePasses& plain_resize_passes();  // any CPU
const ResizePasses* avx2_resize_passes();   // null when this CPU has no AVX2
const ResizePasses& resize_passes();        // the fastest one here

}  // namespace facet
