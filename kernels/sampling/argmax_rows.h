// The best token of each row of logits: greedy sampling where nothing changes the scores.
// Bound by the logits, read once: rows * width elements.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/launch.h"

namespace facet::kernels {

// best[r] = the lowest index of the largest of logits[r], or -1 where one is not a number.
// logits [rows, width] dense, best [rows]; device memory. width at least 1.
cudaError_t argmax_rows(DType dtype, const void* logits, std::int32_t* best, std::int64_t rows,
                        std::int64_t width, const Launch& launch);

}  // namespace facet::kernels
