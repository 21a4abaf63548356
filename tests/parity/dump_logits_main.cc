// Logits of given answers to given prompts, for a reference to be compared with:
//   dump_logits MODEL_DIR fp32|bf16|fp16 CASES OUT [GPU]
// CASES: a folder with cases.json as of scripts/make_goldens.py (messages, output_ids) and the
// images that it names. OUT: fp32 [steps of all cases, vocab], case after case. On the CPU unless
// GPU ("0") is given. Prints what it did as one JSON object.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "tests/parity/forced_run.h"
#include "worker/model/model_start.h"

namespace facet {
namespace {

StartOptions options_of(char** arguments, int count, std::size_t cases) {
  StartOptions options;
  options.directory = arguments[1];
  const std::map<std::string, Dtype> dtypes{
      {"fp32", Dtype::kFp32}, {"bf16", Dtype::kBf16}, {"fp16", Dtype::kFp16}};
  options.dtype = dtypes.at(arguments[2]);
  options.worker.count = 1;
  options.worker.credits = static_cast<int>(cases);
  options.worker.max_num_batched_tokens = 1024;  // long prompts come in parts
  options.budget_bytes = 2'500'000'000;
  if (count > 5) {
    options.worker.gpus = {arguments[5]};
    options.budget_bytes = 20'000'000'000;
  }
  return options;
}

int dump(int count, char** arguments) {
  const std::string folder = arguments[3];
  const std::vector<GoldenCase> goldens = read_golden_cases(folder + "/cases.json");
  std::vector<ForcedCase> cases;
  std::vector<std::size_t> first_row{0};
  for (const GoldenCase& golden : goldens) {
    cases.push_back({&golden, golden.output_ids});
    first_row.push_back(first_row.back() + golden.output_ids.size());
  }
  std::ofstream out(arguments[4], std::ios::binary);
  std::size_t vocab = 0;
  ForcedRun forced(cases, folder, [&](std::size_t number, std::size_t step, auto row) {
    vocab = row.size();
    out.seekp(static_cast<std::streamoff>((first_row[number] + step) * row.size_bytes()));
    out.write(reinterpret_cast<const char*>(row.data()),
              static_cast<std::streamsize>(row.size_bytes()));
  });
  StartOptions options = options_of(arguments, count, cases.size());
  options.logits_tap = forced.tap();
  const auto engine = start_model_engine(options, [](WorkerPhase) {});
  if (!engine) {
    std::fprintf(stderr, "dump_logits: %s\n", engine.error().message.c_str());
    return 1;
  }
  for (std::size_t i = 0; i < cases.size(); ++i) forced.add(i, 0, cases[i].output_ids.size());
  forced.run(**engine);
  out.flush();
  if (!out || forced.num_steps != first_row.back()) {
    std::fprintf(stderr, "dump_logits: %zu of %zu steps written to %s\n", forced.num_steps,
                 first_row.back(), arguments[4]);
    return 1;
  }
  std::printf("{\"steps\": %zu, \"vocab\": %zu, \"forced\": %zu}\n", forced.num_steps, vocab,
              forced.num_forced);
  return 0;
}

}  // namespace
}  // namespace facet

int main(int argc, char** argv) {
  if (argc < 5 || argc > 6) {
    std::fputs("dump_logits MODEL_DIR fp32|bf16|fp16 CASES OUT [GPU]\n", stderr);
    return 2;
  }
  return facet::dump(argc, argv);
}
