// Rows of the embedding table for a batch of tokens; rows that stand for image tokens come from the
// encoder's output pool instead.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/launch.h"

namespace facet::kernels {

// All pointers in device memory.
struct EmbedArgs {
  const void* table = nullptr;              // [vocab, width]
  const void* images = nullptr;             // [pool rows, width]; may be null with image_row
  const std::int32_t* token_ids = nullptr;  // [rows]; ~lane: what was chosen last for that lane
  const std::int32_t* chosen = nullptr;     // [lanes]; null: there is none such
  const std::int32_t* image_row = nullptr;  // [rows] or null: >= 0: row of `images` instead
  void* out = nullptr;                      // [rows, width]
};

// A token outside of the vocabulary gives a row of zeros: ids are checked where they enter, and a
// padded row reads nothing. width: a multiple of 8.
cudaError_t embed_tokens(DType dtype, const EmbedArgs& args, std::int64_t rows, std::int32_t width,
                         std::int32_t vocab, const Launch& launch);

// out[r] = x[index[r]], rows of `width` elements (multiple of 8): last tokens before the head.
cudaError_t gather_rows(DType dtype, const void* x, const std::int32_t* index, void* out,
                        std::int64_t rows, std::int32_t width, const Launch& launch);

}  // namespace facet::kernels
