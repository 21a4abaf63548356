#include "common/gpu/gpu_assignment.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

VisibleGpus visible(int count) {
  VisibleGpus list;
  for (int i = 0; i < count; ++i) {
    HostGpu& gpu = list.gpus.emplace_back();
    gpu.uuid = "GPU-0000000" + std::to_string(i) + "-0000-0000-0000-000000000000";
    gpu.name = "NVIDIA H200";
  }
  return list;
}

using Names = std::vector<std::string>;

Names assigned(const WorkerConfig& worker, int num_visible) {
  const auto result = assign_gpus(worker, visible(num_visible));
  return result ? *result : Names{result.error().message};
}

std::string uuid(int i) {
  return visible(i + 1).gpus.back().uuid;
}

TEST(GpuAssignment, OneWorkerForEachVisibleGpu) {
  WorkerConfig worker;
  EXPECT_EQ(assigned(worker, 0), Names{});
  EXPECT_EQ(assigned(worker, 1), Names{uuid(0)});
  EXPECT_EQ(assigned(worker, 3), (Names{uuid(0), uuid(1), uuid(2)}));
}

TEST(GpuAssignment, NamesAreIndicesOfTheVisibleListOrUuids) {
  WorkerConfig worker;
  worker.gpus = {"2", uuid(0)};
  EXPECT_EQ(assigned(worker, 3), (Names{uuid(2), uuid(0)}));
  worker.gpus = {"GPU-00000001"};
  EXPECT_EQ(assigned(worker, 3), Names{uuid(1)});
  worker.gpus = {"2", "1", "0"};
  worker.count = 2;
  EXPECT_EQ(assigned(worker, 3), (Names{uuid(2), uuid(1)}));
}

TEST(GpuAssignment, AnUnknownNameIsToldWithWhatIsThere) {
  WorkerConfig worker;
  worker.gpus = {"0", "2"};
  const auto result = assign_gpus(worker, visible(2));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kNotFound);
  EXPECT_EQ(result.error().message, "worker.gpus: no GPU \"2\"; visible are 0 (NVIDIA H200, " +
                                        uuid(0) + "), 1 (NVIDIA H200, " + uuid(1) + ")");
  VisibleGpus hidden = visible(0);
  hidden.num_hidden = 8;
  worker.gpus = {"0"};
  EXPECT_EQ(assign_gpus(worker, hidden).error().message,
            "worker.gpus: no GPU \"0\"; visible are none; CUDA_VISIBLE_DEVICES hides 8 more");
}

TEST(GpuAssignment, OneGpuUnderTwoNamesIsRefused) {
  WorkerConfig worker;
  worker.gpus = {"1", uuid(1)};
  const auto result = assign_gpus(worker, visible(2));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message, "worker.gpus: \"" + uuid(1) + "\" is " + uuid(1) +
                                        ", named before; workers share no GPU");
}

TEST(GpuAssignment, BudgetsAreOneForAllOrOneForEach) {
  WorkerConfig worker;
  worker.device_max_memory_bytes = {1000, 2000};
  EXPECT_EQ(assigned(worker, 2).size(), 2U);
  const auto result = assign_gpus(worker, visible(3));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message.rfind("worker.device_max_memory: 2 sizes for 3 workers", 0), 0U);
  worker.device_max_memory_bytes = {1000};
  EXPECT_EQ(assigned(worker, 3).size(), 3U);
}

TEST(GpuAssignment, TheDriverIsAskedOnlyWhereItMatters) {
  WorkerConfig worker;
  EXPECT_TRUE(needs_gpu_list(worker));
  worker.count = 2;
  EXPECT_FALSE(needs_gpu_list(worker));
  worker.gpus = {"0", "1"};
  EXPECT_TRUE(needs_gpu_list(worker));
  worker.engine = EngineKind::kEcho;
  EXPECT_FALSE(needs_gpu_list(worker));
}

TEST(GpuAssignment, ABoundConfigurationHasAsManyWorkersAsGpus) {
  Config config;
  EXPECT_EQ(with_gpus(config, {}).worker.count, 0);
  const Config bound = with_gpus(config, {uuid(1), uuid(0)});
  EXPECT_EQ(bound.worker.count, 2);
  EXPECT_EQ(bound.worker.gpus, (Names{uuid(1), uuid(0)}));
}

}  // namespace
}  // namespace facet
