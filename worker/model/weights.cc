#include "worker/model/weights.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include <cstring>
#include <vector>

#include "common/base/check.h"

namespace facet {
namespace {

at::ScalarType stored_type(TensorDtype dtype) {
  switch (dtype) {
    case TensorDtype::kF32:
      return at::kFloat;
    case TensorDtype::kBf16:
      return at::kBFloat16;
    case TensorDtype::kF16:
      return at::kHalf;
    default:
      break;
  }
  FACET_CHECK_MSG(false, "bind_tensors lets only these through");
  return at::kFloat;
}

}  // namespace

at::Tensor WeightLoader::get(const std::string& name) const {
  const auto found = table_.find(name);
  FACET_CHECK_MSG(found != table_.end(), name.c_str());
  const TensorView& view = *found->second;
  at::Tensor stored = at::empty(view.shape, stored_type(view.dtype));
  std::memcpy(stored.data_ptr(), view.data, view.bytes);  // the file's bytes may not be aligned
  tick_(WorkerPhase::kLoad);
  return stored.to(dtype_);
}

at::Tensor WeightLoader::stack_rows(std::initializer_list<std::string> names) const {
  std::vector<at::Tensor> parts;
  for (const std::string& name : names) parts.push_back(get(name));
  return at::cat(parts, 0);
}

void linear_into(at::Tensor& out, const at::Tensor& x, const at::Tensor& weight,
                 const at::Tensor& bias) {
  if (bias.defined())
    at::addmm_out(out, bias, x, weight.t());
  else
    at::mm_out(out, x, weight.t());
}

}  // namespace facet
