#include "worker/model/compute_choice.h"

#include <string>

namespace facet {

Result<ComputeType> choose_compute_type(Dtype asked, const TypeDevice& device,
                                        const FamilyTypes& family) {
  switch (asked) {
    case Dtype::kFp32:
      return ComputeType::kFp32;
    case Dtype::kBf16:
      return ComputeType::kBf16;
    case Dtype::kAuto:
      return device.is_gpu || device.has_bf16 ? ComputeType::kBf16 : ComputeType::kFp32;
    case Dtype::kFp16:
      break;
  }
  if (!family.fp16_fault.empty())
    return Error(Code::kUnsupported,
                 "model.dtype \"fp16\" is not for " + std::string(family.family) + ": " +
                     std::string(family.fp16_fault) + "; \"bf16\" and \"fp32\" are");
  if (!device.is_gpu)
    return Error(Code::kUnsupported,
                 "model.dtype \"fp16\" is for GPUs: a CPU computes in \"fp32\" or \"bf16\"");
  return ComputeType::kFp16;
}

}  // namespace facet
