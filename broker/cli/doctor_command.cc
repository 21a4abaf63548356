#include "broker/cli/doctor_command.h"

#include <CLI/CLI.hpp>
#include <filesystem>

#include "broker/cli/doctor_checks.h"
#include "broker/cli/exit_codes.h"
#include "broker/cli/siblings.h"
#include "broker/cli/socket_search.h"
#include "broker/cli/standard_output.h"
#include "common/config/config.h"

namespace facet {
namespace {

constexpr std::size_t kMaxPlanLines = 4;  // of what a plan that failed said

// The defaults where none is named or it cannot be used: the host is looked at all the same.
Config read_config(const DoctorOptions& options, DoctorReport& report) {
  // Without a model a configuration is not whole; which one is said below.
  const auto defaults = parse_config("[worker]\nengine = \"echo\"\n", "defaults", "");
  Config config = defaults ? *defaults : Config{};
  config.worker.engine = EngineKind::kModel;
  if (options.config.empty()) {
    report.ok("config", "none named (--config): the defaults count");
  } else if (auto read = load_config(options.config)) {
    config = std::move(*read);
    report.ok("config", options.config + " is valid");
  } else {
    report.fail("config", read.error().message,
                "configs/facet.toml has every key; the rest of "
                "this report is about the defaults");
  }
  if (!options.model.empty()) {
    std::error_code ignored;
    config.model.path = std::filesystem::absolute(options.model, ignored);
    config.worker.engine = EngineKind::kModel;
  } else if (config.model.path.empty() && config.worker.engine == EngineKind::kModel) {
    if (const auto model = default_model()) config.model.path = *model;
  }
  return config;
}

void check_programs(const Config& config, DoctorReport& report) {
  std::string missing;
  const char* worker =
      config.worker.engine == EngineKind::kEcho ? "facet-worker-echo" : "facet-worker";
  for (const char* name : {"facetd", "facet-broker", "facet-decoder", worker}) {
    if (const auto found = find_sibling(name); !found)
      missing += (missing.empty() ? "" : "; ") + found.error().message;
  }
  if (missing.empty()) {
    report.ok("programs", "facetd, facet-broker, facet-decoder and " + std::string(worker) +
                              " lie in " + own_folder());
  } else {
    report.fail("programs", missing, "the programs of one build belong into one folder");
  }
}

std::string first_lines(const std::string& text) {
  std::size_t end = 0;
  for (std::size_t i = 0; i < kMaxPlanLines && end != std::string::npos; ++i)
    end = text.find('\n', end + 1);
  std::string lines = text.substr(0, end);
  while (!lines.empty() && lines.back() == '\n') lines.pop_back();
  return lines;
}

// As `facet-worker --plan --dtype` takes it; null: its default.
const char* dtype_argument(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFp32:
      return "fp32";
    case Dtype::kBf16:
      return "bf16";
    case Dtype::kFp16:
      return "fp16";
    case Dtype::kAuto:
      break;
  }
  return nullptr;
}

// The worker's own plan of this model on the first worker's device: the code that starts it.
void check_plan(const Config& config, const std::string& gpu, DoctorReport& report) {
  const auto program = find_sibling("facet-worker");
  if (!program) return;  // said above
  const WorkerConfig& worker = config.worker;
  std::vector<std::string> arguments{"--plan",
                                     config.model.path,
                                     "--max-lanes",
                                     std::to_string(worker.max_lanes),
                                     "--max-model-len",
                                     std::to_string(worker.max_model_len),
                                     "--max-num-batched-tokens",
                                     std::to_string(worker.max_num_batched_tokens)};
  if (const char* dtype = dtype_argument(config.model.dtype))
    arguments.insert(arguments.end(), {"--dtype", dtype});
  if (!worker.device_max_memory_bytes.empty())
    arguments.insert(arguments.end(),
                     {"--memory", std::to_string(worker.device_max_memory_bytes.front())});
  if (!gpu.empty()) arguments.insert(arguments.end(), {"--gpu", gpu});
  const auto plan = capture_program(*program, arguments);
  if (!plan) {
    report.fail("fits", plan.error().message, "");
    return;
  }
  if (plan->exit_code != 0) {
    report.fail("fits", first_lines(plan->errors.empty() ? plan->output : plan->errors),
                "facet plan " + config.model.path + " shows what would fit");
    return;
  }
  const std::string& text = plan->output;
  const auto fits = text.find("What fits\n");
  const auto context = text.find("context", fits);
  std::string summary = first_lines(text.substr(0, text.find('\n')));
  for (const char* what : {"context", "KV pool", "largest image"}) {
    const auto at = text.find(what, context);
    if (fits == std::string::npos || at == std::string::npos) continue;
    std::string line = text.substr(at, text.find('\n', at) - at);
    line.erase(
        std::unique(line.begin(), line.end(), [](char a, char b) { return a == ' ' && b == ' '; }),
        line.end());
    summary += "; " + line;
  }
  report.ok("fits", summary);
}

}  // namespace

void add_doctor_command(CLI::App& app, DoctorOptions& options) {
  app.add_option("--config", options.config, "the configuration to check (the defaults)");
  app.add_option("--model", options.model, "a model directory in the place of model.path");
  app.add_flag("--json", options.json, "one JSON object");
  app.footer(R"(What this host has, what the configuration needs of it, and what to do. Needs no
daemon and changes nothing.
Examples:
  facet doctor
  facet doctor --config /etc/facet/facet.toml
  facet doctor --model ~/models/Qwen2.5-VL-3B-Instruct --json | jq .gpus

Exit codes: 0 no errors (warnings there may be), 1 errors, 2 wrong use.)");
}

int doctor_command(const DoctorOptions& options) {
  DoctorReport report;
  const Config config = read_config(options, report);
  check_programs(config, report);
  check_host(look_at_host(), config, report);
  const std::string gpu = check_gpus(look_at_gpus(own_folder()), config.worker, report);
  check_runtime_folder(config.broker, report);
  if (config.worker.engine == EngineKind::kEcho) {
    report.ok("model", "none: worker.engine is \"echo\"");
  } else if (config.model.path.empty()) {
    report.warn("model", "none named", "--model DIR or model.path of the configuration");
  } else if (check_model_files(config.model.path, report)) {
    check_plan(config, gpu, report);
  }
  const Status written = print_now(options.json ? report.json(FACET_VERSION) : report.text());
  return written && !report.has_errors() ? kCliOk : kCliFailed;
}

}  // namespace facet
