// facet-worker-echo: the worker's service around the echo engine.
#include <memory>
#include <utility>

#include "worker/echo/echo_engine.h"
#include "worker/service/run_worker.h"

namespace {

facet::Result<std::unique_ptr<facet::Engine>> make_engine(const facet::EngineContext& context) {
  const facet::WorkerConfig& worker = context.config.worker;
  const facet::EchoOptions options{
      .step_time = worker.echo.token_us * facet::Nanos{1000},
      .memory_bytes = worker.echo.memory_bytes,
      .max_lanes = static_cast<std::uint32_t>(worker.max_lanes),
      .capacity = static_cast<std::uint32_t>(worker.credits),
  };
  return FACET_TRY(facet::EchoEngine::create(options, context.tick));
}

}  // namespace

int main(int argc, char** argv) { return facet::run_worker(argc, argv, make_engine); }
