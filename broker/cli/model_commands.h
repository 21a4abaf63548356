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
  std::string gpu_memory;
  std::string dtype;
  bool json = false;
};
void add_plan_command(CLI::App& app, PlanOptions& options);
int plan_command(const PlanOptions& options);

// The worker's plan (JSON) for people: nested objects are indented, numbers of bytes are exact and
// readable.
std::string plan_table(const std::string& plan_json);

}  // namespace facet
