#include "broker/service/service_limits.h"

#include <thread>

namespace facet {

CoreLimits core_limits(const Config& config, std::uint32_t num_workers) {
  const BrokerConfig& broker = config.broker;
  CoreLimits limits;
  limits.num_workers = num_workers;
  limits.dispatch = broker.dispatch;
  limits.max_queued_requests = static_cast<std::uint32_t>(broker.max_queued_requests);
  limits.max_requests_per_client = static_cast<std::uint32_t>(broker.max_requests_per_client);
  limits.max_ingest_bytes_per_client = broker.max_ingest_bytes_per_client;
  limits.max_images = static_cast<std::uint32_t>(broker.max_images);
  limits.max_image_bytes = broker.max_image_bytes;
  limits.max_image_pixels = broker.max_image_pixels;
  limits.max_image_side = static_cast<std::uint32_t>(broker.max_image_side);
  limits.max_tokens_default = static_cast<std::uint32_t>(broker.max_tokens_default);
  limits.max_tokens_limit = static_cast<std::uint32_t>(broker.max_tokens_limit);
  limits.max_uploads = static_cast<std::uint32_t>(config.ledger.max_records);
  limits.deadline_default = broker.request_deadline_s * kSecond;
  limits.record_ttl = broker.record_ttl_s * kSecond;
  limits.keepalive = broker.keepalive_ms * kMillisecond;
  limits.max_tokens_bytes = kMaxTokensBytes;
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  const int decoders = config.decoder.processes > 0 ? config.decoder.processes : cores;
  limits.decode_jobs = static_cast<std::uint32_t>(decoders > 0 ? decoders : 1);
  limits.decode_deadline = 4 * config.decoder.cpu_seconds * kSecond + kDecodeGrace;
  return limits;
}

}  // namespace facet
