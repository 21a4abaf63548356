// facet-worker-echo: the worker's service around the echo engine.
#include <chrono>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <thread>

#include "worker/echo/echo_engine.h"
#include "worker/service/run_worker.h"

namespace {

// FACET_ECHO_TOKEN_US="1000 1000 3000": step times of the workers in their order, for tests with
// workers of unequal speed. Those that it does not name keep the configuration's.
int token_us_of(std::uint32_t worker, int configured) {
  const char* each = std::getenv("FACET_ECHO_TOKEN_US");
  std::istringstream words(each != nullptr ? each : "");
  int token_us = configured;
  for (std::uint32_t i = 0; i <= worker; ++i) {
    if (!(words >> token_us)) return configured;
  }
  return token_us;
}

// FACET_ECHO_WARM_UP_MS: so long a warm-up without a sign of life, as of a compiler that hangs.
void warm_up(const facet::ProgressTick& tick) {
  const char* given = std::getenv("FACET_ECHO_WARM_UP_MS");
  if (given == nullptr) return;
  tick(facet::WorkerPhase::kPrefill);
  std::this_thread::sleep_for(std::chrono::milliseconds(std::atoi(given)));
}

facet::Result<std::unique_ptr<facet::Engine>> make_engine(const facet::EngineContext& context) {
  const facet::WorkerConfig& worker = context.config.worker;
  const facet::EchoOptions options{
      .step_time = token_us_of(context.worker, worker.echo.token_us) * facet::Nanos{1000},
      .memory_bytes = worker.echo.memory_bytes,
      .max_lanes = static_cast<std::uint32_t>(worker.max_lanes),
      .capacity = static_cast<std::uint32_t>(worker.credits),
  };
  auto engine = FACET_TRY(facet::EchoEngine::create(options, context.tick));
  warm_up(context.tick);
  return engine;
}

}  // namespace

int main(int argc, char** argv) { return facet::run_worker(argc, argv, make_engine); }
