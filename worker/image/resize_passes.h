// The two passes of a separable resize over RGB8 rows, vectorized.
#pragma once

#include <cstdint>

#include "worker/image/resize_weights.h"

namespace facet {

// One output row of output_width = weights.begin.size() pixels from one input row. `input` must be
// readable for one byte past its last pixel, `output` writable for one byte past its last.
void resize_row(const std::uint8_t* input, const ResizeWeights& weights, std::uint8_t* output);

// Output row `y` from input rows weights.begin[y] and on; `input` is the first row of the image.
void resize_column(const std::uint8_t* input, std::size_t stride_bytes, std::size_t row_bytes,
                   const ResizeWeights& weights, std::int64_t y, std::uint8_t* output);

}  // namespace facet
