// The random checkpoints that the goldens were made with, and engines on them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/engine/engine.h"
#include "worker/model/model_start.h"

namespace facet {

const std::string& parity_data();  // tests/data

// Writes the checkpoint with scripts/make_fixture_checkpoint.py into a folder that is removed when
// the program ends; made once for the same arguments. Aborts when the script fails.
const std::string& fixture_directory(const std::string& script_arguments);

// FACET_TEST_GPU=0 puts the engines on GPU 0, which takes other sizes than a CPU: blocks of 16
// tokens, widths that are multiples of 8. FACET_TEST_GPU=cpu: those sizes, on the CPU.
bool has_gpu_sizes();
// Of checkpoints with goldens, those that the device takes; the first one is the hardest.
const std::vector<std::string>& fixture_shapes();
// On a GPU: 16, whatever is wanted.
int block_tokens(int wanted);

// fp32, one thread, room for `sequences` at once; on the device that FACET_TEST_GPU names.
StartOptions fixture_options(const std::string& directory, int sequences = 128);

// Makes the KV pool so small that it holds `tokens` positions: sequences are preempted.
// Needs options.worker.max_model_len to be set, at most `tokens`.
void limit_kv_tokens(StartOptions& options, std::uint64_t tokens);

// Fails the test and returns null when the engine does not start.
std::unique_ptr<Engine> start_fixture(const StartOptions& options);

// The whole program instead of the part that fits a test run: FACET_PARITY_FULL=1.
bool is_full_run();

}  // namespace facet
