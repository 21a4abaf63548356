// facet-worker: the worker's service around a model.
#include <cstdio>
#include <string_view>

#include "worker/model/model_start.h"
#include "worker/model/plan_mode.h"
#include "worker/service/run_worker.h"

namespace {

facet::Result<std::unique_ptr<facet::Engine>> make_engine(const facet::EngineContext& context) {
  facet::StartOptions options = facet::start_options(context.config, context.worker);
  options.times = context.times;
  return facet::start_model_engine(options, context.tick);
}

bool has_argument(int argc, char** argv, std::string_view name) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == name || (argument.starts_with(name) && argument[name.size()] == '='))
      return true;
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  if (has_argument(argc, argv, "--version")) {
    std::puts("facet-worker " FACET_VERSION);
    return 0;
  }
  if (has_argument(argc, argv, "--plan")) return facet::run_plan_mode(argc, argv);
  return facet::run_worker(argc, argv, make_engine);
}
