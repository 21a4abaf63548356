// Config: everything that configs/facet.toml says, with its defaults.
// Each key's bounds, and the reason for them, stand in config_schema.cc; its meaning for the
// operator stands in configs/facet.toml. Times and sizes carry their unit in their name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/config/dispatch_policy.h"

namespace facet {

enum class EngineKind { kModel, kEcho };
// kAuto: bf16 where the device computes in it, else fp32.
enum class Dtype { kAuto, kFp32, kBf16, kFp16 };
enum class LogLevel { kDebug, kInfo, kWarn, kError };

struct ModelConfig {
  std::string path;  // Hugging Face directory; absolute after loading; needed by kModel only
  Dtype dtype = Dtype::kAuto;
  bool operator==(const ModelConfig&) const = default;
};

struct EchoConfig {
  int token_us = 1000;             // time that one step takes, however many sequences it holds
  std::uint64_t memory_bytes = 0;  // resident memory to hold, to look like a real worker
  bool operator==(const EchoConfig&) const = default;
};

struct WorkerConfig {
  EngineKind engine = EngineKind::kModel;
  int count = 0;                  // worker processes; 0 = one per name in gpus, else one
  std::vector<std::string> gpus;  // "GPU-..." UUIDs or indices; empty = the i-th visible GPU
  // Budget of each worker, in the order of gpus; one value counts for all; empty = the worker's
  // own choice, from what is free at start.
  std::vector<std::uint64_t> device_max_memory_bytes;
  int threads = 0;                    // CPU threads of one worker; 0 = cores / workers
  int max_lanes = 16;                 // sequences that run in one batch
  int max_model_len = 0;              // tokens of prompt and answer; 0 = the model's own limit
  int max_num_batched_tokens = 2048;  // tokens of one step, prefill chunks included
  int kv_block_tokens = 16;           // token positions of one KV block
  bool prefix_cache = true;           // of KV blocks, and of the image encoder's output
  int credits = 32;                   // dispatches outstanding at one worker
  EchoConfig echo;
  bool operator==(const WorkerConfig&) const = default;
};

struct BrokerConfig {
  std::string runtime_dir;  // absolute after loading; see default_runtime_dir()
  std::string socket;       // of the clients; after loading runtime_dir/facet.sock or own
  DispatchPolicy dispatch = DispatchPolicy::kLeastLoaded;
  int max_clients = 256;           // connections
  int max_queued_requests = 1024;  // accepted and not yet dispatched
  // Of one user (uid), over all its connections; 0: a full queue is shared equally, three quarters
  // of the connections, three quarters of ring.ingest_bytes.
  int max_queued_per_user = 0;
  int max_clients_per_user = 0;
  std::uint64_t max_ingest_bytes_per_user = 0;
  int max_requests_per_client = 512;
  std::uint64_t max_ingest_bytes_per_client = 64ull << 20;
  int request_deadline_s = 600;  // longest that a client may ask for, and the default
  int max_tokens_default = 256;
  int max_tokens_limit = 16384;
  int max_images = 16;                          // of one request
  std::uint64_t max_image_bytes = 32ull << 20;  // one image, encoded
  std::int64_t max_image_pixels = 50'000'000;   // width * height
  int max_image_side = 16384;
  int keepalive_ms = 1000;                  // between two signs of life to a waiting client
  std::uint64_t memory_bytes = 2ull << 30;  // private memory: ring and ledger do not count
  int record_ttl_s = 60;                    // a finished request can be asked for again this long
  bool operator==(const BrokerConfig&) const = default;
};

struct RingConfig {
  std::uint64_t ingest_bytes = 128ull << 20;  // encoded images
  std::uint64_t pixel_bytes = 600ull << 20;   // RGB8 images
  bool operator==(const RingConfig&) const = default;
};

struct LedgerConfig {
  std::uint64_t bytes = 64ull << 20;
  int max_records = 4096;
  bool operator==(const LedgerConfig&) const = default;
};

struct DecoderConfig {
  int processes = 0;                        // images decoded at once; 0 = cores
  int cpu_seconds = 10;                     // of one image
  std::uint64_t memory_bytes = 1ull << 30;  // address space of one child
  bool operator==(const DecoderConfig&) const = default;
};

struct SupervisorConfig {
  int restart_backoff_ms = 1000;  // before the second restart in a row; doubles; the first: 0
  int restart_backoff_max_ms = 60000;
  int load_deadline_ms = 600'000;  // progress deadlines of a worker, by phase
  int warmup_deadline_ms = 180'000;
  int idle_deadline_ms = 5000;
  int step_deadline_ms = 60'000;
  int broker_deadline_ms = 10'000;  // progress deadline of the broker's loop
  int kill_grace_ms = 2000;         // from SIGABRT or SIGTERM to SIGKILL
  int drain_ms = 30'000;            // SIGTERM to facetd: running requests may end this long
  bool operator==(const SupervisorConfig&) const = default;
};

struct LogConfig {
  LogLevel level = LogLevel::kInfo;
  std::string file;  // empty = standard error; absolute after loading
  bool operator==(const LogConfig&) const = default;
};

struct Config {
  ModelConfig model;
  WorkerConfig worker;
  BrokerConfig broker;
  RingConfig ring;
  LedgerConfig ledger;
  DecoderConfig decoder;
  SupervisorConfig supervisor;
  LogConfig log;
  bool operator==(const Config&) const = default;
};

// Reads a TOML file. On failure the message lists every problem, one a line:
//   facet.toml:12: worker.count: 65 is not between 0 and 64 (...)
// kNotFound or kIo: the file cannot be read; kInvalidArgument: its content is refused.
Result<Config> load_config(const std::string& path);

// The same for a text. `name` stands in messages; relative paths are taken from `folder`
// (absolute, or empty for the working directory).
Result<Config> parse_config(std::string_view text, const std::string& name,
                            const std::string& folder);

// TOML text with every key and its value in effect; parse_config() reads it back to an equal
// Config. This is how a Config travels to another process and into a log.
std::string describe(const Config& config);

// Where sockets lie unless broker.runtime_dir says otherwise: $RUNTIME_DIRECTORY (set by systemd),
// /run/facet for root, $XDG_RUNTIME_DIR/facet, /tmp/facet-<uid>.
std::string default_runtime_dir();

// The client socket when no configuration is at hand: default_runtime_dir()/facet.sock.
std::string default_socket_path();

// worker.threads, or an equal share of the cores, at least 1.
int threads_per_worker(const WorkerConfig& worker, int num_workers, int num_cores);

}  // namespace facet
