#include "worker/checkpoint/tensor_table.h"

#include <algorithm>

#include "worker/checkpoint/json_fields.h"

namespace facet {
namespace {

constexpr std::size_t kMaxListed = 20;  // a wrong directory misses hundreds: the first tell enough

bool is_float(TensorDtype dtype) {
  return dtype == TensorDtype::kF32 || dtype == TensorDtype::kBf16 || dtype == TensorDtype::kF16;
}

void check_view(const TensorSpec& spec, const TensorView& view,
                std::vector<std::string>& problems) {
  if (view.shape != spec.shape)
    problems.push_back("tensor " + short_name(view.name) + ": shape " + shape_text(view.shape) +
                       ", the configuration needs " + shape_text(spec.shape));
  if (!is_float(view.dtype))
    problems.push_back("tensor " + short_name(view.name) + ": dtype " +
                       std::string(dtype_name(view.dtype)) + ", supported are F32, BF16, F16");
}

}  // namespace

Result<TensorTable> bind_tensors(const Checkpoint& checkpoint, const std::vector<TensorSpec>& specs,
                                 NameMap canonical, const std::vector<std::string>& ignored) {
  std::vector<std::string> problems;
  TensorTable stored;
  for (const std::string& name : checkpoint.names())
    if (!stored.emplace(canonical(name), checkpoint.find(name)).second)
      problems.push_back("tensor " + short_name(canonical(name)) + " is there under two spellings");
  TensorTable table;
  for (const TensorSpec& spec : specs) {
    const auto found = stored.find(spec.name);
    if (found == stored.end()) {
      problems.push_back("tensor " + spec.name + " " + shape_text(spec.shape) + " is missing");
      continue;
    }
    check_view(spec, *found->second, problems);
    table.insert(stored.extract(found));
  }
  for (const auto& [name, view] : stored)
    if (std::find(ignored.begin(), ignored.end(), name) == ignored.end())
      problems.push_back("tensor " + short_name(view->name) + " is not one this model has");
  if (problems.empty()) return table;
  if (problems.size() > kMaxListed) {
    const std::size_t more = problems.size() - kMaxListed;
    problems.resize(kMaxListed);
    problems.push_back("and " + std::to_string(more) + " more");
  }
  return Error(Code::kCorrupt, join_lines(problems));
}

}  // namespace facet
