#include "worker/model/angles.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/sin.h>

#include "common/base/check.h"

namespace facet {

std::vector<float> inverse_frequencies(double theta, std::int64_t dim) {
  const at::Tensor exponent = at::arange(0, dim, 2, at::kFloat) / dim;
  const at::Tensor inverse = (1.0 / at::pow(theta, exponent)).contiguous();
  const auto* data = inverse.const_data_ptr<float>();
  return {data, data + inverse.numel()};
}

void fill_angles(double theta, std::int64_t dim, std::span<float> cos, std::span<float> sin) {
  const std::vector<float> frequencies = inverse_frequencies(theta, dim);
  const auto pairs = static_cast<std::int64_t>(frequencies.size());
  const auto positions = static_cast<std::int64_t>(sin.size()) / pairs;
  FACET_CHECK(cos.size() == sin.size() && positions * pairs == std::ssize(sin));
  float* angle = sin.data();
  for (std::int64_t position = 0; position < positions; ++position)
    for (const float frequency : frequencies) *angle++ = frequency * static_cast<float>(position);
  at::Tensor cosines = at::from_blob(cos.data(), {positions, pairs}, at::kFloat);
  at::Tensor sines = at::from_blob(sin.data(), {positions, pairs}, at::kFloat);
  at::cos_out(cosines, sines);
  sines.sin_();
}

}  // namespace facet
