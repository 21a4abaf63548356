#include "broker/service/status_json.h"

#include <nlohmann/json.hpp>

#include "common/protocol/codec.h"

namespace facet {
namespace {

using Json = nlohmann::ordered_json;

const char* state_of(const WorkerStatus& worker) {
  const bool drains = worker.is_draining && worker.state == WorkerState::kReady;
  return drains ? "draining" : worker_state_name(worker.state);
}

Json worker_json(std::uint32_t index, const WorkerStatus& worker) {
  return {
      {"index", index},
      {"state", state_of(worker)},
      {"pid", worker.pid},
      {"incarnation", worker.incarnation},
      {"model", worker.model.name},
      {"family", worker.model.family},
      {"max_model_len", worker.model.max_model_len},
      {"credits", worker.credits},
      {"outstanding", worker.outstanding},
      {"outstanding_tokens", worker.outstanding_tokens},
      {"running", worker.num_running},
      {"kv_blocks_free", worker.kv_blocks_free},
      {"kv_blocks_total", worker.kv_blocks_total},
      {"kv_blocks_cached", worker.kv_blocks_cached},
      {"settled", worker.is_settled},
      {"idle_gap_us", worker.idle_gap_ns / 1000.0},
      {"finished", worker.finished},
      {"tokens", worker.tokens},
      {"sequence_tokens_per_second", worker.sequence_tokens_per_second},
      {"deaths", worker.deaths},
      {"own_fault_deaths", worker.own_fault_deaths},
      {"restarts", worker.restarts},
      {"held_for_suspect", worker.held_for_suspect},
      {"exit_code", worker.exit_code},
  };
}

Json users_json(const std::vector<UserStatus>& users) {
  Json json = Json::array();
  for (const UserStatus& user : users) {
    json.push_back({{"user", user.user},
                    {"requests", user.requests},
                    {"queued", user.queued},
                    {"ingest_bytes", user.ingest_bytes},
                    {"ledger_bytes", user.ledger_bytes}});
  }
  return json;
}

Json arena_json(const ArenaUse& arena) {
  return {
      {"pages", arena.pages},
      {"used", arena.used},
      {"high_mark", arena.high_mark},
      {"largest_free_run", arena.largest_free_run},
      {"slots", arena.slots},
      {"page_bytes", kRingPageBytes},
  };
}

Json ledger_json(const LedgerUse& ledger) {
  return {
      {"max_records", ledger.max_records},
      {"records", ledger.records},
      {"pages", ledger.pages},
      {"used", ledger.used},
      {"high_mark", ledger.high_mark},
      {"largest_free_run", ledger.largest_free_run},
      {"page_bytes", kLedgerPageBytes},
  };
}

// {"invalid_argument": 3}: only what happened.
Json by_code(const std::array<std::uint64_t, 16>& counts) {
  Json json = Json::object();
  for (std::size_t code = 0; code < counts.size(); ++code) {
    if (counts[code] > 0) json[std::string(code_name(static_cast<Code>(code)))] = counts[code];
  }
  return json;
}

Json done_json(const std::array<std::uint64_t, 8>& counts) {
  Json json = Json::object();
  for (FinishReason reason : {FinishReason::kStop, FinishReason::kLength, FinishReason::kCancelled,
                              FinishReason::kError}) {
    json[std::string(finish_reason_name(reason))] = counts[static_cast<std::size_t>(reason)];
  }
  return json;
}

Json counters_json(const CoreCounters& core, const ClientPort::Counters& clients,
                   const ServiceStatus& service) {
  return {
      {"events", core.events},
      {"accepted", core.accepted},
      {"attached", core.attached},
      {"refused", by_code(core.refused)},
      {"done", done_json(core.done)},
      {"failed", by_code(core.failed)},
      {"recovered", core.recovered},
      {"dispatches", core.dispatches},
      {"retried", core.retried},
      {"preempted", core.preempted},
      {"tokens", core.tokens},
      {"images_decoded", core.images_decoded},
      {"decode_retries", core.decode_retries},
      {"stale_dropped", core.stale_dropped},
      {"duplicate_tokens", core.duplicate_tokens},
      {"protocol_kills", core.protocol_kills},
      {"quarantined", core.quarantined},
      {"uploads_expired", core.uploads_expired},
      {"client_blocked", core.client_blocked},
      {"client_messages", clients.received},
      {"malformed_from_clients", clients.refused_malformed},
      {"malformed_from_workers", service.malformed_from_workers},
      {"refused_table_full", clients.refused_table_full},
      {"fd_messages", service.fds.received},
      {"fd_images_stored", service.fds.stored},
      {"fd_malformed", service.fds.refused_malformed},
      {"fd_connections_refused", service.fds.refused_full},
      {"clients_gone", clients.gone},
      {"replies_dropped", clients.replies_dropped},
  };
}

}  // namespace

std::string status_json(const CoreStatus& core, const ServiceFacts& facts,
                        const ClientPort::Counters& clients, const ServiceStatus& service) {
  Json workers = Json::array();
  for (std::uint32_t i = 0; i < core.workers.size(); ++i) {
    workers.push_back(worker_json(i, core.workers[i]));
  }
  const Json json = {
      {"version", facts.version},
      {"pid", facts.pid},
      {"socket", facts.socket},
      {"fd_socket", facts.fd_socket},
      {"uptime_s", static_cast<double>(monotonic_now() - facts.started) / kSecond},
      {"epoch", core.epoch},
      {"config_generation", service.config_generation},
      {"draining", core.draining},
      {"idle", service.idle},
      {"conservation", service.conservation.empty() ? "ok" : service.conservation},
      {"decoder_up", core.decoder_up},
      {"requests",
       {{"queued_interactive", core.queued_interactive},
        {"queued_batch", core.queued_batch},
        {"running", core.running},
        {"suspects", core.suspects},
        {"terminal_records", core.terminal_records},
        {"uploads", core.uploads},
        {"decode_jobs", core.decode_jobs},
        {"queued_tokens", core.queued_tokens},
        {"completions_per_second", core.completions_per_second},
        {"tokens_per_second", core.tokens_per_second},
        {"eta_ms", core.eta_ms ? Json(*core.eta_ms) : Json(nullptr)}}},
      {"clients",
       {{"known", core.clients},
        {"connections", service.connections},
        {"fd_connections", service.fd_connections}}},
      {"users", users_json(core.users)},
      {"workers", std::move(workers)},
      {"ring", {{"ingest", arena_json(core.ingest)}, {"pixels", arena_json(core.pixels)}}},
      {"ledger", ledger_json(core.ledger)},
      {"counters", counters_json(core.counters, clients, service)},
  };
  // Text from elsewhere (a model's name) may not be UTF-8: replaced, never thrown.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace facet
