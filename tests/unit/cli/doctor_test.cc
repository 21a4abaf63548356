#include <gtest/gtest.h>
#include <sys/file.h>

#include <filesystem>
#include <fstream>

#include "broker/cli/doctor_checks.h"
#include "common/base/unique_fd.h"
#include "tests/unit/cli/temp_dir.h"

namespace facet {
namespace {

HostFacts good_host() {
  HostFacts facts;
  facts.cpu_name = "A CPU";
  facts.cpu_flags = {"avx2", "fma"};
  facts.cores = 4;
  facts.memory_bytes = 16'000'000'000;
  facts.shm_bytes = 8'000'000'000;
  facts.max_files = 20'000;
  return facts;
}

HostGpu card(int number, int major, int minor) {
  HostGpu gpu;
  gpu.uuid = "GPU-0000000" + std::to_string(number) + "-0000-0000-0000-000000000000";
  gpu.name = "A card";
  gpu.major = major;
  gpu.minor = minor;
  gpu.total_bytes = 80'000'000'000;
  gpu.free_bytes = 79'000'000'000;
  return gpu;
}

GpuFacts gpu_host(std::vector<HostGpu> gpus) {
  GpuFacts facts;
  facts.has_driver = facts.has_code = true;
  facts.host = Result<HostGpus>(HostGpus{std::move(gpus), 13000, "580.1"});
  return facts;
}

// "ok gpu, error workers": what is not ok, or "fine".
std::string worries(const DoctorReport& report) {
  std::string text;
  for (const Finding& finding : report.findings) {
    if (finding.level == Level::kOk) continue;
    EXPECT_FALSE(finding.text.empty());
    text += (text.empty() ? "" : ", ") +
            std::string(finding.level == Level::kError ? "error " : "warning ") + finding.subject;
  }
  return text.empty() ? "fine" : text;
}

std::string host_worries(const HostFacts& facts, const Config& config = {}) {
  DoctorReport report;
  check_host(facts, config, report);
  return worries(report);
}

TEST(Doctor, AGoodHostHasNoWorries) {
  EXPECT_EQ(host_worries(good_host()), "fine");
}

TEST(Doctor, WhatAHostLacksIsNamed) {
  HostFacts facts = good_host();
  facts.cpu_flags.erase("avx2");
  EXPECT_EQ(host_worries(facts), "warning cpu");
  facts = good_host();
  facts.shm_bytes = 64 << 20;
  EXPECT_EQ(host_worries(facts), "warning shm");
  facts.shm_bytes = std::nullopt;
  EXPECT_EQ(host_worries(facts), "warning shm");
  facts = good_host();
  facts.memory_bytes = 500'000'000;
  EXPECT_EQ(host_worries(facts), "error memory");
  facts = good_host();
  facts.max_files = 1024;
  EXPECT_EQ(host_worries(facts), "fine");
  Config config;
  config.broker.max_clients = 1000;
  EXPECT_EQ(host_worries(facts, config), "error descriptors");
  facts = good_host();
  facts.sandbox = Error(Code::kIo, "seccomp filter: Invalid argument");
  EXPECT_EQ(host_worries(facts), "error sandbox");
}

struct GpuVerdict {
  std::string worries;
  std::string gpu;  // of the first worker
};

GpuVerdict judge(const GpuFacts& facts, const WorkerConfig& worker = {}) {
  DoctorReport report;
  GpuVerdict verdict;
  verdict.gpu = check_gpus(facts, worker, report);
  verdict.worries = worries(report);
  return verdict;
}

TEST(Doctor, CardsAreJudgedByTheirCapability) {
  for (const auto& [major, minor, wanted] : {std::tuple{8, 0, "fine"},
                                             {8, 6, "fine"},
                                             {8, 9, "fine"},
                                             {9, 0, "fine"},
                                             {7, 5, "error gpu"},
                                             {10, 0, "error gpu"},
                                             {12, 0, "error gpu"}}) {
    const GpuVerdict verdict = judge(gpu_host({card(0, major, minor)}));
    EXPECT_EQ(verdict.worries, wanted) << major << "." << minor;
    EXPECT_EQ(verdict.gpu, card(0, 9, 0).uuid);
  }
}

TEST(Doctor, DriverAndHiddenCardsAreJudged) {
  GpuFacts facts = gpu_host({card(0, 9, 0), card(1, 9, 0)});
  facts.visible_devices = "1";
  EXPECT_EQ(judge(facts).worries, "fine");
  EXPECT_EQ(judge(facts).gpu, card(1, 9, 0).uuid);
  facts.visible_devices = "1,5";
  EXPECT_EQ(judge(facts).worries, "warning gpu");
  (**facts.host).cuda_version = 12080;
  EXPECT_EQ(judge(facts).worries, "error driver, warning gpu");
  facts.host = Result<HostGpus>(Error(Code::kTimeout, "nothing within 60 s"));
  EXPECT_EQ(judge(facts).worries, "error driver");
  EXPECT_EQ(judge(GpuFacts{}).worries, "fine") << "no GPU is no error";
}

TEST(Doctor, WishesAreHeldAgainstWhatIsThere) {
  WorkerConfig worker;
  worker.gpus = {"1"};
  EXPECT_EQ(judge(gpu_host({card(0, 9, 0)}), worker).worries, "error workers");
  EXPECT_EQ(judge(gpu_host({card(0, 9, 0), card(1, 9, 0)}), worker).gpu, card(1, 9, 0).uuid);
  EXPECT_EQ(judge(GpuFacts{}, worker).worries, "error gpu");
  GpuFacts facts = gpu_host({card(0, 9, 0)});
  facts.has_code = false;
  EXPECT_EQ(judge(facts).worries, "warning gpu");
  worker.gpus = {"0"};
  EXPECT_EQ(judge(facts, worker).worries, "error gpu");
  GpuFacts busy = gpu_host({card(0, 9, 0)});
  (**busy.host).gpus[0].free_bytes = 10'000'000'000;
  EXPECT_EQ(judge(busy).worries, "warning gpu");
}

TEST(Doctor, FoldersThatCannotHoldSocketsAreErrors) {
  const TempDir folder;
  BrokerConfig broker;
  const auto verdict = [&](const std::string& path) {
    broker.runtime_dir = path;
    broker.socket = path + "/facet.sock";
    DoctorReport report;
    check_runtime_folder(broker, report);
    return worries(report);
  };
  const std::string run = folder.at("run");
  EXPECT_EQ(verdict(run), "fine") << "facetd makes it";
  std::filesystem::create_directory(run);
  std::filesystem::permissions(run, std::filesystem::perms(0777));
  EXPECT_EQ(verdict(run), "error sockets");
  std::filesystem::permissions(run, std::filesystem::perms(0750));
  EXPECT_EQ(verdict(run), "fine");
  std::ofstream(folder.at("file")) << "x";
  EXPECT_EQ(verdict(folder.at("file")), "error sockets");
}

TEST(Doctor, TheHolderOfALockIsFoundWithoutTakingIt) {
  const TempDir folder;
  const std::string path = folder.at("lock");
  EXPECT_FALSE(lock_holder(path));
  const UniqueFd file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  EXPECT_FALSE(lock_holder(path));
  ASSERT_EQ(flock(file.get(), LOCK_EX), 0);
  EXPECT_EQ(lock_holder(path), getpid());
}

TEST(Doctor, ModelFilesAreLookedAt) {
  const TempDir folder;
  DoctorReport report;
  EXPECT_FALSE(check_model_files(folder.at("none"), report));
  std::filesystem::create_directory(folder.at("model"));
  EXPECT_FALSE(check_model_files(folder.at("model"), report));
  std::ofstream(folder.at("model/model.safetensors")) << "x";
  EXPECT_TRUE(check_model_files(folder.at("model"), report));
  EXPECT_EQ(worries(report), "error model, error model");
}

TEST(Doctor, ReportsCountAndIndent) {
  DoctorReport report;
  report.ok("a", "one");
  report.warn("b", "two\nlines", "do this");
  EXPECT_FALSE(report.has_errors());
  EXPECT_EQ(report.text(),
            "ok       a            one\n"
            "warning  b            two\n"
            "                      lines\n"
            "                      -> do this\n"
            "0 errors, 1 warning\n");
  report.fail("c", "three", "");
  EXPECT_TRUE(report.has_errors());
  EXPECT_NE(report.json("9").find("\"errors\": 1"), std::string::npos);
}

}  // namespace
}  // namespace facet
