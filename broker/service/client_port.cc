#include "broker/service/client_port.h"

#include <spdlog/spdlog.h>

#include <utility>
#include <variant>

#include "broker/service/service_limits.h"
#include "common/protocol/codec.h"

namespace facet {
namespace {

std::optional<std::string_view> chunk_of(const Router::Message& message) {
  if (!message.chunk) return std::nullopt;
  return message.chunk->to_string_view();
}

Result<ClientMessage> decode(const Router::Message& message) {
  if (message.num_frames == 0 || message.num_frames > kMaxFrames) {
    return Error(Code::kInvalidArgument, std::to_string(message.num_frames) +
                                             " frames: a message has 1 or 2");
  }
  return decode_client_message(message.map.to_string_view(), chunk_of(message));
}

void log_terminal(const ClientNotice& notice) {
  if (const auto* accepted = std::get_if<Accepted>(&notice)) {
    spdlog::debug("accepted request={} position={} tokens={}", accepted->id.hex(),
                  accepted->queue_position, accepted->num_tokens);
  } else if (const auto* done = std::get_if<Done>(&notice)) {
    spdlog::debug("done request={} reason={} tokens={} attempts={} ms={:.1f}", done->id.hex(),
                  finish_reason_name(done->reason), done->usage.completion_tokens, done->attempts,
                  done->timings.total_ms);
  }
}

}  // namespace

ClientPort::ClientPort(Router& router, const Limits& limits, EventSink sink,
                       StatusJson status_json)
    : router_(router),
      table_(limits.max_clients, limits.max_clients_per_user, kClientStaleAfter),
      sink_(std::move(sink)),
      status_json_(std::move(status_json)) {}

bool ClientPort::receive(Nanos now) {
  const auto message = router_.receive();
  if (!message) return false;
  ++counters_.received;
  const auto found =
      table_.find_or_add(message->identity, message->user.value_or(kUnknownUser), now);
  if (!found) {
    ++counters_.refused_table_full;
    refuse(message->identity, *message, found.error(), kTableFullRetryMs);
    return true;
  }
  if (found->replaced) sink_(ClientGone{*found->replaced});
  handle(*message, found->token);
  return true;
}

void ClientPort::handle(const Router::Message& message, ClientToken client) {
  const UserId user = message.user.value_or(kUnknownUser);
  auto decoded = decode(message);
  if (!decoded) {
    ++counters_.refused_malformed;
    std::uint64_t skipped = 0;
    if (log_limiter_.allow(monotonic_now(), skipped)) {
      spdlog::info("malformed_message client={} code={} error=\"{}\" skipped={}", client,
                   code_name(decoded.error().code), decoded.error().message, skipped);
    }
    refuse_malformed(message, client, decoded.error());
  } else if (const auto* put = std::get_if<PutChunk>(&*decoded)) {
    sink_(ClientPut{client, *put, chunk_of(message).value_or(std::string_view()), {}, user});
  } else if (auto* generate = std::get_if<GenerateRequest>(&*decoded)) {
    std::string body = encode_request_body(*generate);
    sink_(ClientGenerate{client, std::move(*generate), std::move(body), {}, user});
  } else if (const auto* cancel = std::get_if<CancelRequest>(&*decoded)) {
    sink_(ClientCancel{client, cancel->id});
  } else {
    reply(message.identity, encode_message(StatusReply{status_json_()}));
  }
}

// The core answers for a put and a generate: what it keeps under their id is refused with them.
void ClientPort::refuse_malformed(const Router::Message& message, ClientToken client,
                                  const Error& error) {
  const UserId user = message.user.value_or(kUnknownUser);
  auto salvaged = salvage_client_message(message.map.to_string_view());
  if (salvaged && std::holds_alternative<PutChunk>(*salvaged)) {
    sink_(ClientPut{client, std::get<PutChunk>(*salvaged), {}, error, user});
  } else if (salvaged && std::holds_alternative<GenerateRequest>(*salvaged)) {
    sink_(ClientGenerate{client, std::get<GenerateRequest>(std::move(*salvaged)), {}, error, user});
  } else {
    refuse(message.identity, message, error, 0);
  }
}

void ClientPort::refuse(const std::string& identity, const Router::Message& message,
                        const Error& error, std::uint32_t retry_after_ms) {
  Refused refused;
  if (const auto id = find_request_id(message.map.to_string_view())) refused.id = *id;
  refused.code = error.code;
  refused.message = error.message;
  refused.retry_after_ms = retry_after_ms;
  reply(identity, encode_message(refused));
}

void ClientPort::reply(const std::string& identity, const std::string& payload) {
  if (router_.send(identity, payload) != Router::Sent::kYes) ++counters_.replies_dropped;
}

void ClientPort::send(SendClient action, Nanos now, std::deque<Event>& events) {
  const std::string* identity = table_.identity(action.client);
  if (identity == nullptr) return;  // its end was reported already
  if (full_.contains(action.client)) {
    events.push_back(ClientBlocked{action.client, std::move(action.message)});
    return;
  }
  const std::string payload =
      std::visit([](const auto& notice) { return encode_message(notice); }, action.message);
  switch (router_.send(*identity, payload)) {
    case Router::Sent::kYes:
      table_.touch(action.client, now);
      log_terminal(action.message);
      break;
    case Router::Sent::kFull:
      full_.insert(action.client);
      events.push_back(ClientBlocked{action.client, std::move(action.message)});
      break;
    case Router::Sent::kGone:
      ++counters_.gone;
      table_.remove(action.client);
      events.push_back(ClientGone{action.client});
      break;
  }
}

}  // namespace facet
