// The life of a worker process, whatever its engine: arguments, inherited descriptors, loading,
// the link to the broker, the loop, the exit code. `main` of every worker is one call.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "common/base/result.h"
#include "common/config/config.h"
#include "worker/engine/engine.h"
#include "worker/engine/start_times.h"

namespace facet {

// What an engine is made from. Valid during the factory's call only, but for `tick`, which may be
// kept: it must be called at least every few seconds while an engine loads or computes.
struct EngineContext {
  const Config& config;
  std::uint32_t worker = 0;  // index of this worker, 0 .. worker.count - 1
  ProgressTick tick;
  StartTimes* times = nullptr;  // marked as parts are done
};

// Builds and loads the engine. kInvalidArgument, kNotFound, kUnsupported, kTooLarge and kCorrupt
// mean that model or configuration are wrong (the worker exits with kExitBadConfig and is not
// started again), kExhausted that memory is short (kExitHostMemory), all others kExitEngine.
using EngineFactory = std::function<Result<std::unique_ptr<Engine>>(const EngineContext&)>;

// Runs until the supervisor ends it. Returns the process's exit code (common/control/fds.h).
// Arguments: --config FILE --worker N --incarnation I --worker-socket PATH, or --tokenize DIR.
int run_worker(int argc, char** argv, const EngineFactory& factory);

}  // namespace facet
