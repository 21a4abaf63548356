#include "common/gpu/visible_gpus.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

HostGpu gpu(const std::string& uuid) {
  HostGpu gpu;
  gpu.uuid = uuid;
  return gpu;
}

const std::vector<HostGpu> kHost = {gpu("GPU-00000000-0000-0000-0000-000000000000"),
                                    gpu("GPU-00ab0000-0000-0000-0000-000000000001"),
                                    gpu("GPU-c0ffee00-0000-0000-0000-000000000002"),
                                    gpu("GPU-c0ffee11-0000-0000-0000-000000000003")};

// Digits of the GPUs' places on the host, in the order of the list; "M" for a slice.
std::string seen(const std::optional<std::string>& value) {
  std::string places;
  for (const HostGpu& visible : visible_gpus(kHost, value).gpus) {
    places += visible.uuid.starts_with("MIG-") ? "M" : visible.uuid.substr(visible.uuid.size() - 1);
  }
  return places;
}

TEST(VisibleGpus, AreAllWithoutTheVariableAndNoneWithAnEmptyOne) {
  EXPECT_EQ(seen(std::nullopt), "0123");
  EXPECT_EQ(seen(""), "");
  EXPECT_EQ(seen(" "), "");
  EXPECT_TRUE(visible_gpus(kHost, "").warning.empty());
}

TEST(VisibleGpus, KeepTheOrderOfTheVariable) {
  EXPECT_EQ(seen("2,0"), "20");
  EXPECT_EQ(seen(" 3 , 1"), "31");
  EXPECT_EQ(seen(kHost[1].uuid + ",0," + kHost[3].uuid), "103");
}

TEST(VisibleGpus, AreNamedByBeginningsThatFitOneAlone) {
  EXPECT_EQ(seen("GPU-c0ffee1,GPU-00a"), "31");
  EXPECT_EQ(seen("GPU-C0FFEE0"), "2");
  EXPECT_EQ(seen("0,GPU-c0ffee,1"), "0") << "two begin like this";
  EXPECT_EQ(seen("c0ffee00"), "") << "the prefix is part of the name";
  EXPECT_EQ(seen("GPU-"), "");
}

TEST(VisibleGpus, EndBeforeTheFirstEntryThatIsWrong) {
  EXPECT_EQ(seen("1,4,2"), "1");
  EXPECT_EQ(seen("-1"), "");
  EXPECT_EQ(seen("0,-1,2"), "0");
  EXPECT_EQ(seen("NoDevFiles"), "");
  EXPECT_EQ(seen("0,,2"), "0");
  EXPECT_EQ(seen("99999999999999999999"), "");
  EXPECT_EQ(seen("1,0,1"), "10") << "a GPU twice";
  EXPECT_EQ(seen("1," + kHost[1].uuid), "1") << "the same by another name";
}

TEST(VisibleGpus, SayWhyTheListEnded) {
  const VisibleGpus visible = visible_gpus(kHost, "1,7,2");
  EXPECT_NE(visible.warning.find("\"7\" names no GPU"), std::string::npos) << visible.warning;
  EXPECT_NE(visible.warning.find(kHost[3].uuid), std::string::npos) << visible.warning;
  EXPECT_EQ(visible.num_hidden, 3U);
  EXPECT_NE(visible_gpus(kHost, "2,2").warning.find("again"), std::string::npos);
}

TEST(VisibleGpus, TakeSlicesAsTheyAreNamed) {
  EXPECT_EQ(seen("MIG-11111111-0000-0000-0000-000000000000,2"), "M2");
  EXPECT_EQ(seen("MIG-"), "");
}

TEST(FindGpu, TellsNoneFromOne) {
  EXPECT_EQ(find_gpu(kHost, "3"), 3);
  EXPECT_EQ(find_gpu(kHost, "4"), -1);
  EXPECT_EQ(find_gpu(kHost, ""), -1);
  EXPECT_EQ(find_gpu(kHost, kHost[2].uuid), 2);
  EXPECT_EQ(find_gpu({}, "0"), -1);
}

}  // namespace
}  // namespace facet
