#include "worker/model/cuda/angles.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/sin.h>

namespace facet {

std::vector<float> inverse_frequencies(double theta, std::int64_t dim) {
  const at::Tensor exponent = at::arange(0, dim, 2, at::kFloat) / dim;
  const at::Tensor inverse = (1.0 / at::pow(theta, exponent)).contiguous();
  const auto* data = inverse.const_data_ptr<float>();
  return {data, data + inverse.numel()};
}

HostAngles host_angles(double theta, std::int64_t dim, std::int64_t positions) {
  const std::vector<float> frequencies = inverse_frequencies(theta, dim);
  HostAngles angles;
  angles.cos.resize(static_cast<std::size_t>(positions) * frequencies.size());
  for (std::int64_t position = 0; position < positions; ++position)
    for (const float frequency : frequencies)
      angles.sin.push_back(frequency * static_cast<float>(position));
  const auto count = static_cast<std::int64_t>(angles.sin.size());
  at::Tensor cos = at::from_blob(angles.cos.data(), {count}, at::kFloat);
  at::Tensor sin = at::from_blob(angles.sin.data(), {count}, at::kFloat);
  at::cos_out(cos, sin);
  sin.sin_();
  return angles;
}

}  // namespace facet
