// Which tensors a model needs, and finding them in a checkpoint under any of their spellings.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "worker/checkpoint/checkpoint.h"

namespace facet {

struct TensorSpec {
  std::string name;  // as transformers 5 spells the module
  std::vector<std::int64_t> shape;
};

using TensorTable = std::map<std::string, const TensorView*, std::less<>>;

// Canonical spelling of a stored name.
using NameMap = std::string (*)(std::string_view stored);

// A view for every spec, by canonical name. The error lists all tensors that are missing, unknown,
// doubled, of a wrong shape or of a dtype other than F32, BF16 and F16. Names in `ignored` may be
// in the checkpoint.
Result<TensorTable> bind_tensors(const Checkpoint& checkpoint, const std::vector<TensorSpec>& specs,
                                 NameMap canonical, const std::vector<std::string>& ignored);

}  // namespace facet
