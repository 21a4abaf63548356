// `facet tokenize` and `facet plan`: what a model's own program knows about it. This program links
// neither tokenizer nor torch: it runs the worker's.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace facet {

struct TokenizeOptions {
  std::string model;
};
void add_tokenize_command(CLI::App& app, TokenizeOptions& options);
int tokenize_command(const TokenizeOptions& options);

struct PlanOptions {
  std::string model;
  std::string gpu_memory;  // each as the user wrote it; empty = the worker's default
  std::string dtype;
  std::string max_lanes;
  std::string max_model_len;
  std::string max_num_batched_tokens;
  bool json = false;
};
void add_plan_command(CLI::App& app, PlanOptions& options);
int plan_command(const PlanOptions& options);

}  // namespace facet
