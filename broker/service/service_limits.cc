#include "broker/service/service_limits.h"

#include <algorithm>
#include <thread>

#include "common/control/descriptor_needs.h"
#include "common/shm/ring.h"

namespace facet {
namespace {

// What one user may have of a thing that all users share, unless the configuration says so: the
// rest is there for the others, whatever it does.
constexpr std::uint64_t user_share(std::uint64_t all) { return all - all / 4; }

}  // namespace

ClientPort::Limits client_limits(const Config& config) {
  const auto all = static_cast<std::size_t>(config.broker.max_clients);
  const auto own = static_cast<std::size_t>(config.broker.max_clients_per_user);
  return {all, own > 0 ? own : static_cast<std::size_t>(user_share(all))};
}

FdPort::Limits fd_limits() { return {kMaxFdConnections, user_share(kMaxFdConnections)}; }

CoreLimits core_limits(const Config& config, std::uint32_t num_workers) {
  const BrokerConfig& broker = config.broker;
  CoreLimits limits;
  limits.num_workers = num_workers;
  limits.dispatch = broker.dispatch;
  limits.worker_lanes = static_cast<std::uint32_t>(config.worker.max_lanes);
  limits.max_queued_requests = static_cast<std::uint32_t>(broker.max_queued_requests);
  limits.max_queued_per_user = static_cast<std::uint32_t>(broker.max_queued_per_user);
  limits.max_ingest_bytes_per_user = broker.max_ingest_bytes_per_user > 0
                                         ? broker.max_ingest_bytes_per_user
                                         : user_share(config.ring.ingest_bytes);
  const auto pages = RingGeometry::from_bytes(config.ring.ingest_bytes, 0).ingest_pages;
  limits.max_ingest_pages_per_user = std::max<std::uint64_t>(
      user_share(pages), RingWriter::pages_for(broker.max_ingest_bytes_per_user));
  limits.max_requests_per_client = static_cast<std::uint32_t>(broker.max_requests_per_client);
  limits.max_ingest_bytes_per_client = broker.max_ingest_bytes_per_client;
  limits.max_images = static_cast<std::uint32_t>(broker.max_images);
  limits.max_image_bytes = broker.max_image_bytes;
  limits.max_image_pixels = broker.max_image_pixels;
  limits.max_image_side = static_cast<std::uint32_t>(broker.max_image_side);
  limits.max_tokens_default = static_cast<std::uint32_t>(broker.max_tokens_default);
  limits.max_tokens_limit = static_cast<std::uint32_t>(broker.max_tokens_limit);
  limits.max_uploads = static_cast<std::uint32_t>(config.ledger.max_records);
  limits.max_uploads_per_user = static_cast<std::uint32_t>(user_share(limits.max_uploads));
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
