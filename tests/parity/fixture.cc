#include "tests/parity/fixture.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>

namespace facet {
namespace {

std::map<std::string, std::string>& directories() {
  static std::map<std::string, std::string> made;
  return made;
}

class RemoveFixtures : public ::testing::Environment {
 public:
  void TearDown() override {
    for (const auto& [arguments, directory] : directories()) std::filesystem::remove_all(directory);
  }
};
[[maybe_unused]] const auto* const kRemove =
    ::testing::AddGlobalTestEnvironment(new RemoveFixtures);  // owned by GoogleTest

}  // namespace

const std::string& parity_data() {
  static const std::string kData = FACET_SOURCE_DIR "/tests/data";
  return kData;
}

const std::string& fixture_directory(const std::string& script_arguments) {
  const auto found = directories().find(script_arguments);
  if (found != directories().end()) return found->second;
  std::string name = std::filesystem::temp_directory_path() / "facet-parity-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) std::abort();
  const std::string command = std::string(FACET_PYTHON) +
                              " " FACET_SOURCE_DIR "/scripts/make_fixture_checkpoint.py " + name +
                              " " + script_arguments + " > /dev/null";
  if (std::system(command.c_str()) != 0) std::abort();
  return directories().emplace(script_arguments, name).first->second;
}

bool has_gpu_sizes() {
  return std::getenv("FACET_TEST_GPU") != nullptr;
}

const std::vector<std::string>& fixture_shapes() {
  static const std::vector<std::string> kShapes = [] {
    return has_gpu_sizes() ? std::vector<std::string>{"plain"}
                           : std::vector<std::string>{"hard", "plain"};
  }();
  return kShapes;
}

int block_tokens(int wanted) {
  return has_gpu_sizes() ? 16 : wanted;
}

StartOptions fixture_options(const std::string& directory, int sequences) {
  StartOptions options;
  options.directory = directory;
  options.dtype = Dtype::kFp32;
  options.worker.count = 1;
  options.worker.threads = 1;
  options.worker.credits = sequences;
  options.budget_bytes = 1'000'000'000;
  const char* gpu = std::getenv("FACET_TEST_GPU");
  if (gpu != nullptr && std::string(gpu) != "cpu") {
    options.worker.gpus = {gpu};
    options.budget_bytes = 4'000'000'000;  // a GPU's process alone takes more
  }
  return options;
}

void limit_kv_tokens(StartOptions& options, std::uint64_t tokens) {
  const auto plan = plan_model(options);
  ASSERT_TRUE(plan) << plan.error().message;
  std::uint64_t kv_bytes = 0;
  for (const MemoryItem& item : plan->items)
    if (item.name == "KV pool") kv_bytes = item.bytes;
  options.budget_bytes = plan->used_bytes() - kv_bytes + tokens * plan->kv_bytes_per_token;
}

std::unique_ptr<Engine> start_fixture(const StartOptions& options) {
  auto engine = start_model_engine(options, [](WorkerPhase) {});
  if (!engine) ADD_FAILURE() << engine.error().message;
  return engine ? std::move(*engine) : nullptr;
}

bool is_full_run() {
  const char* full = std::getenv("FACET_PARITY_FULL");
  return full != nullptr && std::string(full) == "1";
}

}  // namespace facet
