#include "common/config/config_schema.h"

#include "common/protocol/limits.h"

namespace facet {
namespace {

constexpr std::uint64_t kKiB = 1ull << 10;
constexpr std::uint64_t kMiB = 1ull << 20;
constexpr std::uint64_t kGiB = 1ull << 30;
constexpr std::uint64_t kTiB = 1ull << 40;
constexpr std::uint64_t kRingPageBytes = 64 * kKiB;  // design: the ring's unit of allocation
constexpr int kHourS = 3600;
constexpr int kHourMs = kHourS * 1000;

// sun_path holds 107 bytes and its NUL (unix(7)). The longest name below runtime_dir,
// "/private/supervisor.sock", is 24 bytes; a margin is left for one more letter or three.
constexpr std::size_t kMaxSocketPath = 107;
constexpr std::size_t kMaxRuntimeDir = 80;
constexpr std::size_t kMaxPath = 4095;  // PATH_MAX without its NUL

void add_model(Config& c, std::vector<ConfigKey>& keys) {
  keys.push_back({"model.path", "PATH_MAX", TextKey{&c.model.path, kMaxPath, true}});
  keys.push_back({"model.dtype", "", ChoiceKey{&c.model.dtype, {"auto", "fp32", "bf16", "fp16"}}});
}

void add_worker(Config& c, std::vector<ConfigKey>& keys) {
  WorkerConfig& w = c.worker;
  keys.push_back({"worker.engine", "", ChoiceKey{&w.engine, {"model", "echo"}}});
  keys.push_back({"worker.count", "no host has more GPUs", IntKey{&w.count, 0, 64}});
  keys.push_back({"worker.gpus", "no host has more GPUs", TextListKey{&w.gpus, 64}});
  keys.push_back({"worker.device_max_memory", "less holds no model, more has no device",
                  BytesListKey{&w.device_max_memory_bytes, 16 * kMiB, 4 * kTiB, 64}});
  keys.push_back({"worker.threads", "more than any host's cores", IntKey{&w.threads, 0, 1024}});
  keys.push_back({"worker.max_lanes",
                  "rows of a decode step; its graphs on a GPU are captured up to here",
                  IntKey{&w.max_lanes, 1, 512}});
  keys.push_back({"worker.max_model_len", "the longest context of any supported model",
                  IntKey{&w.max_model_len, 0, 1 << 20}});
  keys.push_back({"worker.max_num_batched_tokens", "the activations of one step grow with it",
                  IntKey{&w.max_num_batched_tokens, 1, 1 << 17}});
  keys.push_back({"worker.kv_block_tokens", "fewer waste tables, more waste memory",
                  IntKey{&w.kv_block_tokens, 1, 256}});
  keys.push_back({"worker.prefix_cache", "", BoolKey{&w.prefix_cache}});
  keys.push_back(
      {"worker.credits", "a lost worker's requests all run again", IntKey{&w.credits, 1, 4096}});
  keys.push_back({"worker.echo.token_us", "a minute is the longest step a worker may take",
                  IntKey{&w.echo.token_us, 0, 60'000'000}});
  keys.push_back(
      {"worker.echo.memory", "no host has more", BytesKey{&w.echo.memory_bytes, 0, 4 * kTiB, 1}});
}

void add_broker(Config& c, std::vector<ConfigKey>& keys) {
  BrokerConfig& b = c.broker;
  keys.push_back({"broker.runtime_dir", "socket names in it must fit into 107 bytes",
                  TextKey{&b.runtime_dir, kMaxRuntimeDir, true}});
  keys.push_back({"broker.socket", "the kernel's limit of a socket's path",
                  TextKey{&b.socket, kMaxSocketPath, true}});
  keys.push_back({"broker.dispatch", "",
                  ChoiceKey{&b.dispatch,
                            {"least_loaded", "round_robin", "least_connections", "weighted",
                             "predicted_time"}}});
  keys.push_back({"broker.max_clients", "each is a file descriptor of the broker",
                  IntKey{&b.max_clients, 1, 16384}});
  keys.push_back({"broker.max_queued_requests", "each is a record of the ledger",
                  IntKey{&b.max_queued_requests, 1, 1 << 16}});
  keys.push_back({"broker.max_queued_per_user", "each is a record of the ledger",
                  IntKey{&b.max_queued_per_user, 0, 1 << 16}});
  keys.push_back({"broker.max_clients_per_user", "each is a file descriptor of the broker",
                  IntKey{&b.max_clients_per_user, 0, 16384}});
  keys.push_back({"broker.max_ingest_bytes_per_user", "no ring is larger",
                  BytesKey{&b.max_ingest_bytes_per_user, 0, kTiB, 1}});
  keys.push_back({"broker.max_requests_per_client", "each is a record of the ledger",
                  IntKey{&b.max_requests_per_client, 1, 1 << 16}});
  keys.push_back({"broker.max_ingest_bytes_per_client", "one image chunk, one TiB of ring",
                  BytesKey{&b.max_ingest_bytes_per_client, kMaxChunkBytes, kTiB, 1}});
  keys.push_back({"broker.request_deadline_s", "a day is a stuck request",
                  IntKey{&b.request_deadline_s, 1, 24 * kHourS}});
  keys.push_back({"broker.max_tokens_default", "the wire's longest answer",
                  IntKey{&b.max_tokens_default, 1, kMaxMsgpackArray}});
  keys.push_back({"broker.max_tokens_limit", "the wire's longest answer",
                  IntKey{&b.max_tokens_limit, 1, kMaxMsgpackArray}});
  keys.push_back({"broker.max_images", "the wire's limit", IntKey{&b.max_images, 0, kMaxImages}});
  keys.push_back({"broker.max_image_bytes", "no picture is shorter; the wire's limit",
                  BytesKey{&b.max_image_bytes, kKiB, kMaxImageBytes, 1}});
  keys.push_back({"broker.max_image_pixels", "more than 3 GB of pixels in one image",
                  IntKey{&b.max_image_pixels, 1, 1'000'000'000}});
  keys.push_back(
      {"broker.max_image_side", "JPEG's own limit", IntKey{&b.max_image_side, 1, 65535}});
  keys.push_back({"broker.keepalive_ms", "clients give up after 3 s of silence",
                  IntKey{&b.keepalive_ms, 10, 2500}});
  keys.push_back({"broker.memory_bytes", "its libraries and the largest request need 256 MiB",
                  BytesKey{&b.memory_bytes, 256 * kMiB, kTiB, 1}});
  keys.push_back({"broker.record_ttl_s", "a record keeps its place in the ledger",
                  IntKey{&b.record_ttl_s, 0, 24 * kHourS}});
}

void add_memory(Config& c, std::vector<ConfigKey>& keys) {
  keys.push_back({"ring.ingest_bytes", "whole pages of 64 KiB; one page for each quarter",
                  BytesKey{&c.ring.ingest_bytes, 4 * kRingPageBytes, kTiB, kRingPageBytes}});
  keys.push_back({"ring.pixel_bytes", "whole pages of 64 KiB; one page for each quarter",
                  BytesKey{&c.ring.pixel_bytes, 4 * kRingPageBytes, kTiB, kRingPageBytes}});
  keys.push_back({"ledger.bytes", "whole pages of 64 KiB; less holds no long request",
                  BytesKey{&c.ledger.bytes, kMiB, kTiB, kRingPageBytes}});
  keys.push_back({"ledger.max_records", "a new broker reads all of them",
                  IntKey{&c.ledger.max_records, 1, 1 << 17}});
  keys.push_back(
      {"decoder.processes", "more than any host's cores", IntKey{&c.decoder.processes, 0, 1024}});
  keys.push_back({"decoder.cpu_seconds", "RLIMIT_CPU counts whole seconds",
                  IntKey{&c.decoder.cpu_seconds, 1, kHourS}});
  keys.push_back({"decoder.memory_bytes", "a child's libraries alone need 64 MiB",
                  BytesKey{&c.decoder.memory_bytes, 64 * kMiB, 64 * kGiB, 1}});
}

void add_supervisor(Config& c, std::vector<ConfigKey>& keys) {
  SupervisorConfig& s = c.supervisor;
  keys.push_back({"supervisor.restart_backoff_ms", "0 would spin; an hour serves nobody",
                  IntKey{&s.restart_backoff_ms, 1, kHourMs}});
  keys.push_back({"supervisor.restart_backoff_max_ms", "0 would spin; an hour serves nobody",
                  IntKey{&s.restart_backoff_max_ms, 1, kHourMs}});
  constexpr std::string_view kDeadlineReason = "looked at each 100 ms; an hour is a hang";
  keys.push_back(
      {"supervisor.load_deadline_ms", kDeadlineReason, IntKey{&s.load_deadline_ms, 100, kHourMs}});
  keys.push_back({"supervisor.warmup_deadline_ms", kDeadlineReason,
                  IntKey{&s.warmup_deadline_ms, 100, kHourMs}});
  keys.push_back(
      {"supervisor.idle_deadline_ms", kDeadlineReason, IntKey{&s.idle_deadline_ms, 100, kHourMs}});
  keys.push_back(
      {"supervisor.step_deadline_ms", kDeadlineReason, IntKey{&s.step_deadline_ms, 100, kHourMs}});
  keys.push_back({"supervisor.broker_deadline_ms", kDeadlineReason,
                  IntKey{&s.broker_deadline_ms, 100, kHourMs}});
  keys.push_back({"supervisor.kill_grace_ms", "nothing outlives facetd by 5 s",
                  IntKey{&s.kill_grace_ms, 0, 4000}});
  keys.push_back({"supervisor.drain_ms", "an hour is longer than any request is wanted",
                  IntKey{&s.drain_ms, 0, kHourMs}});
}

}  // namespace

int ChoiceKey::get() const {
  return std::visit([](auto* field) { return static_cast<int>(*field); }, value);
}

void ChoiceKey::set(int choice) const {
  std::visit(
      [choice](auto* field) {
        *field = static_cast<std::remove_reference_t<decltype(*field)>>(choice);
      },
      value);
}

std::vector<ConfigKey> config_keys(Config& config) {
  std::vector<ConfigKey> keys;
  add_model(config, keys);
  add_worker(config, keys);
  add_broker(config, keys);
  add_memory(config, keys);
  add_supervisor(config, keys);
  keys.push_back(
      {"log.level", "", ChoiceKey{&config.log.level, {"debug", "info", "warn", "error"}}});
  keys.push_back({"log.file", "PATH_MAX", TextKey{&config.log.file, kMaxPath, true}});
  return keys;
}

}  // namespace facet
