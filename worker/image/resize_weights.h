// Weights of an antialiased bicubic resize along one axis, in fixed point.
#pragma once

#include <cstdint>
#include <vector>

namespace facet {

// out[i] = clamp((half + sum_k weights[i * num_taps + k] * in[begin[i] + k]) >> precision, 0, 255)
// with half = 1 << (precision - 1) and k below count[i]. Weights past count[i] are 0.
struct ResizeWeights {
  std::int64_t num_taps = 0;  // most taps of any output, rounded up to a multiple of 4
  unsigned precision = 0;     // bits behind the point; the largest weight nearly fills an int16
  std::vector<std::int32_t> begin, count;
  std::vector<std::int16_t> weights;
};

// As torch 2.11's uint8 kernel computes them (ATen UpSampleKernel.cpp, after Pillow's Resample.c):
// Keys' cubic with a = -0.5, widened by the scale when shrinking. Both sizes at least 1.
ResizeWeights bicubic_weights(std::int64_t input_size, std::int64_t output_size);

}  // namespace facet
