#include "worker/model/compute_choice.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

constexpr FamilyTypes kAll{"qwen2_5_vl", ""};
constexpr FamilyTypes kNoFp16{"gemma3", "its activations overflow"};
constexpr TypeDevice kGpu{true, false};
constexpr TypeDevice kOldCpu{false, false};
constexpr TypeDevice kNewCpu{false, true};

std::string refusal(Dtype asked, const TypeDevice& device, const FamilyTypes& family) {
  const auto chosen = choose_compute_type(asked, device, family);
  if (chosen) return "chose " + std::string(name_of(*chosen));
  EXPECT_EQ(chosen.error().code, Code::kUnsupported);
  return chosen.error().message;
}

TEST(ComputeChoice, WhatIsAskedFor) {
  for (const TypeDevice& device : {kGpu, kOldCpu, kNewCpu})
    for (const FamilyTypes& family : {kAll, kNoFp16}) {
      EXPECT_EQ(*choose_compute_type(Dtype::kFp32, device, family), ComputeType::kFp32);
      EXPECT_EQ(*choose_compute_type(Dtype::kBf16, device, family), ComputeType::kBf16);
    }
  EXPECT_EQ(*choose_compute_type(Dtype::kFp16, kGpu, kAll), ComputeType::kFp16);
}

TEST(ComputeChoice, AutoIsBf16WhereTheDeviceHasIt) {
  for (const FamilyTypes& family : {kAll, kNoFp16}) {
    EXPECT_EQ(*choose_compute_type(Dtype::kAuto, kGpu, family), ComputeType::kBf16);
    EXPECT_EQ(*choose_compute_type(Dtype::kAuto, kNewCpu, family), ComputeType::kBf16);
    EXPECT_EQ(*choose_compute_type(Dtype::kAuto, kOldCpu, family), ComputeType::kFp32);
  }
}

TEST(ComputeChoice, Fp16IsRefusedWithWhatToSetInstead) {
  for (const TypeDevice& cpu : {kOldCpu, kNewCpu})
    EXPECT_EQ(refusal(Dtype::kFp16, cpu, kAll),
              "model.dtype \"fp16\" is for GPUs: a CPU computes in \"fp32\" or \"bf16\"");
  EXPECT_EQ(refusal(Dtype::kFp16, kGpu, kNoFp16),
            "model.dtype \"fp16\" is not for gemma3: its activations overflow; \"bf16\" and "
            "\"fp32\" are");
}

}  // namespace
}  // namespace facet
