#include "worker/model/plan_mode.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "common/config/byte_size.h"
#include "common/control/fds.h"
#include "worker/model/model_start.h"
#include "worker/model/plan_report.h"

namespace facet {
namespace {

struct PlanArguments {
  StartOptions options;
  std::string memory;
  std::string gpu;
  bool json = false;
};

void add_options(CLI::App& app, PlanArguments& arguments) {
  WorkerConfig& worker = arguments.options.worker;
  worker.count = 1;
  const std::map<std::string, Dtype> dtypes{{"auto", Dtype::kAuto},
                                            {"fp32", Dtype::kFp32},
                                            {"bf16", Dtype::kBf16},
                                            {"fp16", Dtype::kFp16}};
  app.add_option("--plan", arguments.options.directory, "model directory")->required();
  app.add_option("--memory", arguments.memory, "budget of one worker, e.g. 15GB");
  app.add_option("--dtype", arguments.options.dtype, "auto, fp32, bf16 or fp16")
      ->transform(CLI::CheckedTransformer(dtypes));
  app.add_option("--max-lanes", worker.max_lanes)->check(CLI::Range(1, 4096));
  app.add_option("--max-model-len", worker.max_model_len)->check(CLI::Range(0, 1 << 24));
  app.add_option("--max-num-batched-tokens", worker.max_num_batched_tokens)
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--threads", worker.threads)->check(CLI::Range(0, 4096));
  app.add_option("--gpu", arguments.gpu, "which one, by index or UUID; else the first, or the CPU");
  app.add_flag("--json", arguments.json, "one JSON object");
}

int fail(const Error& error, int exit_code) {
  std::fprintf(stderr, "facet-worker: %s\n", error.message.c_str());
  return exit_code;
}

}  // namespace

int run_plan_mode(int argc, char** argv) {
  CLI::App app("What a model's memory goes to, and what fits, before anything is loaded.");
  PlanArguments arguments;
  add_options(app, arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  if (!arguments.memory.empty()) {
    const auto sizes = parse_byte_sizes(arguments.memory);
    if (!sizes) return fail(sizes.error(), kExitUsage);
    if (!sizes->empty()) arguments.options.budget_bytes = sizes->front();
  }
  if (!arguments.gpu.empty()) arguments.options.worker.gpus = {arguments.gpu};
  std::error_code ignored;
  const auto absolute = std::filesystem::absolute(arguments.options.directory, ignored);
  if (!absolute.empty()) arguments.options.directory = absolute;
  const Result<MemoryPlan> plan = plan_model(arguments.options);
  if (!plan) return fail(plan.error(), kExitBadConfig);
  const std::string text = arguments.json ? plan_json(*plan).dump(2) + "\n" : plan_text(*plan);
  std::fputs(text.c_str(), stdout);
  return kExitOk;
}

}  // namespace facet
