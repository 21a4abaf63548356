#include "broker/cli/model_commands.h"

#include <CLI/CLI.hpp>
#include <cstdio>

#include "broker/cli/exit_codes.h"
#include "broker/cli/siblings.h"
#include "common/config/byte_size.h"

namespace facet {
namespace {

int fail(const Error& error, int code) {
  std::fprintf(stderr, "facet: %s\n", error.message.c_str());
  return code;
}

}  // namespace

void add_tokenize_command(CLI::App& app, TokenizeOptions& options) {
  app.add_option("model", options.model, "directory that holds tokenizer.json")->required();
  app.footer(
      R"(Standard input, all of it as one text, becomes the model's token ids, blanks between.
Example:
  printf 'How many circles?' | facet tokenize configs/demo-model)");
}

int tokenize_command(const TokenizeOptions& options) {
  // The same tokenizer is in both; the one without libtorch starts a second sooner.
  auto program = find_sibling("facet-worker-echo");
  if (!program) program = find_sibling("facet-worker");
  if (!program) return fail(program.error(), kCliFailed);
  return fail(exec_program(*program, {"--tokenize", options.model}), kCliFailed);
}

void add_plan_command(CLI::App& app, PlanOptions& options) {
  app.add_option("model", options.model, "Hugging Face directory of the model")->required();
  app.add_option("--gpu-memory", options.gpu_memory,
                 "budget of one worker, such as 15GB or 512MiB (what is free)");
  app.add_option("--dtype", options.dtype, "auto, fp32, bf16 or (on a GPU) fp16")
      ->check(CLI::IsMember({"auto", "fp32", "bf16", "fp16"}));
  app.add_option("--max-lanes", options.max_lanes, "sequences that run in one batch")
      ->check(CLI::Range(1, 512));
  app.add_option("--max-model-len", options.max_model_len, "tokens of prompt and answer")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--max-num-batched-tokens", options.max_num_batched_tokens, "tokens of one step")
      ->check(CLI::Range(1, 1 << 17));
  app.add_flag("--json", options.json, "the plan as one JSON object");
  app.footer(R"(Every byte that a worker would take, before anything is loaded, and what fits.
Examples:
  facet plan ~/models/Qwen2.5-VL-3B-Instruct --gpu-memory 15GB
  facet plan configs/demo-model --dtype fp32 --json

Exit codes: 0 it fits, 1 it cannot be planned or does not fit, 2 wrong use.)");
}

int plan_command(const PlanOptions& options) {
  std::vector<std::string> arguments{"--plan", options.model};
  const auto pass = [&](const char* name, const std::string& value) {
    if (!value.empty()) arguments.insert(arguments.end(), {name, value});
  };
  if (!options.gpu_memory.empty()) {
    if (const auto size = parse_byte_size(options.gpu_memory); !size) {
      return fail(Error(Code::kInvalidArgument, "--gpu-memory: " + size.error().message),
                  kCliUsage);
    }
  }
  pass("--memory", options.gpu_memory);
  pass("--dtype", options.dtype);
  pass("--max-lanes", options.max_lanes);
  pass("--max-model-len", options.max_model_len);
  pass("--max-num-batched-tokens", options.max_num_batched_tokens);
  if (options.json) arguments.emplace_back("--json");
  const auto program = find_sibling("facet-worker");
  if (!program) {
    return fail(Error(Code::kNotFound,
                      program.error().message + " (this build has no libtorch, so it cannot plan)"),
                kCliFailed);
  }
  const auto exit_code = run_program(*program, arguments);
  if (!exit_code) return fail(exit_code.error(), kCliFailed);
  return *exit_code == 0 ? kCliOk : kCliFailed;
}

}  // namespace facet
