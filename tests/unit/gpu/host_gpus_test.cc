#include "common/gpu/host_gpus.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace facet {
namespace {

// The fake driver's list, for one test.
class HostGpusTest : public ::testing::Test {
 protected:
  void SetUp() override { setenv("FACET_CUDA_DRIVER", FACET_FAKE_DRIVER, 1); }
  void TearDown() override {
    for (const char* name :
         {"FACET_CUDA_DRIVER", "FACET_FAKE_GPUS", "FACET_FAKE_FAULT", "CUDA_VISIBLE_DEVICES"})
      unsetenv(name);
  }
};

TEST_F(HostGpusTest, AreToldWithAllTheyHave) {
  setenv("FACET_FAKE_GPUS",
         "NVIDIA H200=171=9.0=150000000000=140000000000;Tesla T4=1=7.5=16000000000=0", 1);
  const auto host = host_gpus();
  ASSERT_TRUE(host) << host.error().message;
  EXPECT_EQ(host->cuda_version, 13000);
  EXPECT_EQ(cuda_version_text(host->cuda_version), "13.0");
  EXPECT_EQ(cuda_version_text(12080), "12.8");
  EXPECT_EQ(host->driver_version, "580.1.2");
  ASSERT_EQ(host->gpus.size(), 2U);
  EXPECT_EQ(host->gpus[0].uuid, "GPU-abababab-abab-abab-abab-abababababab");
  EXPECT_EQ(host->gpus[0].name, "NVIDIA H200");
  EXPECT_EQ(host->gpus[0].major, 9);
  EXPECT_EQ(host->gpus[0].minor, 0);
  EXPECT_EQ(host->gpus[0].total_bytes, 150000000000U);
  EXPECT_EQ(host->gpus[0].free_bytes, 140000000000U);
  EXPECT_EQ(host->gpus[1].name, "Tesla T4");
  EXPECT_EQ(host->gpus[1].minor, 5);
}

TEST_F(HostGpusTest, AreAllToldWhateverTheVariableHides) {
  setenv("FACET_FAKE_GPUS", "A=1=8.0=1=1;B=2=8.0=1=1", 1);
  setenv("CUDA_VISIBLE_DEVICES", "1", 1);
  const auto host = host_gpus();
  ASSERT_TRUE(host);
  EXPECT_EQ(host->gpus.size(), 2U);
  EXPECT_STREQ(std::getenv("CUDA_VISIBLE_DEVICES"), "1") << "changed in the child alone";
}

TEST_F(HostGpusTest, NoneIsAnEmptyList) {
  const auto host = host_gpus();
  ASSERT_TRUE(host);
  EXPECT_TRUE(host->gpus.empty());
}

TEST_F(HostGpusTest, ADriverThatFailsIsQuoted) {
  setenv("FACET_FAKE_FAULT", "error", 1);
  const auto host = host_gpus();
  ASSERT_FALSE(host);
  EXPECT_EQ(host.error().code, Code::kUnsupported);
  EXPECT_EQ(host.error().message, "the CUDA driver: cuInit: unknown error");
}

TEST_F(HostGpusTest, ADriverThatCrashesTakesItsChildAlone) {
  setenv("FACET_FAKE_FAULT", "crash", 1);
  const auto host = host_gpus();
  ASSERT_FALSE(host);
  EXPECT_EQ(host.error().code, Code::kUnsupported);
}

TEST_F(HostGpusTest, ADriverThatHangsIsGivenUp) {
  setenv("FACET_FAKE_FAULT", "hang", 1);
  auto query = HostGpuQuery::start();
  ASSERT_TRUE(query);
  const auto host = query->finish(50 * kMillisecond);
  ASSERT_FALSE(host);
  EXPECT_EQ(host.error().code, Code::kTimeout);
}

TEST_F(HostGpusTest, AMissingLibraryIsNamed) {
  setenv("FACET_CUDA_DRIVER", "/nowhere/libcuda.so.1", 1);
  const auto host = host_gpus();
  ASSERT_FALSE(host);
  EXPECT_NE(host.error().message.find("/nowhere/libcuda.so.1"), std::string::npos);
}

}  // namespace
}  // namespace facet
