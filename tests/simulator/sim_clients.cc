#include "tests/simulator/sim_clients.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <type_traits>
#include <iterator>
#include <utility>

namespace facet::sim {
namespace {

constexpr Nanos kTickEvery = 20 * kMillisecond;
// The protocol's, and those of clients with less patience: more is running when a broker dies.
constexpr Nanos kSilences[] = {3 * kSecond, kSecond, kSecond / 4};
constexpr std::size_t kChunk = 40'000;
constexpr double kNeverAsked = 0.01;

}  // namespace

SimClients::SimClients(Simulation& sim) : sim_(sim), clients_(sim.options.num_clients) {
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    clients_[i].token = next_token_++;
    by_token_[clients_[i].token] = i;
  }
}

void SimClients::start() {
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    sim_.schedule(sim_.between(0, kTickEvery), [this, i] { tick(i); });
  }
}

void SimClients::calm_down() {
  for (Client& client : clients_) client.is_blocked = false;
}

bool SimClients::can_take(ClientToken token) const {
  const auto found = by_token_.find(token);
  return found == by_token_.end() || !clients_[found->second].is_blocked;
}

bool SimClients::all_done() const {
  return std::all_of(clients_.begin(), clients_.end(),
                     [](const Client& client) { return client.asks.empty(); });
}

std::uint32_t SimClients::num_received(const RequestId& id) const {
  for (const Client& client : clients_) {
    const auto found = client.asks.find(id);
    if (found != client.asks.end()) return found->second.received;
  }
  return 0;
}

std::string SimClients::first_unfinished() const {
  for (const Client& client : clients_) {
    for (const auto& [id, ask] : client.asks) {
      return "request " + id.hex() + " in state " + std::to_string(static_cast<int>(ask.state)) +
             " with " + std::to_string(ask.received) + " of " +
             std::to_string(ask.params.num_tokens) + " tokens";
    }
  }
  return "none";
}

std::string SimClients::describe() const {
  std::string text;
  for (const auto& [how, count] : ends_) text += how + " " + std::to_string(count) + " ";
  return text;
}

// Every 20 ms: perhaps a new request, a fault of this client, and its time-outs.
void SimClients::tick(std::size_t index) {
  Client& client = clients_[index];
  Rng& rng = sim_.rng;
  const double seconds = static_cast<double>(kTickEvery) * 1e-9;
  if (!sim_.is_calm) {
    if (client.asks.size() < sim_.options.requests_per_client && chance(rng, 0.5)) begin(client);
    if (chance(rng, sim_.options.disconnect_rate * seconds)) reconnect(client);
    if (!client.is_blocked && chance(rng, sim_.options.block_rate * seconds)) {
      client.is_blocked = true;
      sim_.schedule(sim_.between(0, 2 * kSecond), [this, index] {
        Client& blocked = clients_[index];
        blocked.is_blocked = false;
        if (chance(sim_.rng, 0.5)) to_broker(blocked, ClientWritable{blocked.token});
      });
    }
  }
  for (auto& [id, ask] : client.asks) {
    if (ask.state == State::kRefused) continue;
    if (sim_.now - ask.heard > kSilences[sim_.options.seed % std::size(kSilences)]) {
      ask.heard = sim_.now;
      submit(client, ask, false);
    } else if (!sim_.is_calm && chance(rng, 0.0005)) {
      submit(client, ask, chance(rng, 0.5));  // for no reason
    } else if (ask.state == State::kAccepted && !ask.cancel_sent &&
               chance(rng, sim_.options.cancel_chance * seconds)) {
      ask.cancel_sent = true;
      to_broker(client, ClientCancel{client.token, id});
    }
  }
  sim_.schedule(kTickEvery, [this, index] { tick(index); });
}

RequestParams SimClients::draw_params() {
  Rng& rng = sim_.rng;
  RequestParams params;
  std::memset(static_cast<void*>(&params), 0, sizeof params);  // padding is part of the body
  params.seed = rng();
  // Some run on for seconds, through the deaths of several brokers.
  params.max_tokens = 1 + static_cast<std::uint32_t>(below(rng, chance(rng, 0.2) ? 400 : 60));
  params.num_tokens = chance(rng, 0.3)
                          ? params.max_tokens
                          : 1 + static_cast<std::uint32_t>(below(rng, params.max_tokens));
  params.num_images = static_cast<std::uint32_t>(below(rng, 4));
  params.poison_at = chance(rng, sim_.options.poison_chance)
                         ? static_cast<std::uint32_t>(below(rng, params.num_tokens))
                         : UINT32_MAX;
  params.priority = chance(rng, 0.3) ? 1 : 0;
  params.worker_error = chance(rng, 0.01) ? 1 : 0;
  if (sim_.options.short_deadlines && chance(rng, 0.4)) {
    params.deadline_ms = 20 + static_cast<std::uint32_t>(below(rng, 2000));
  }
  if (params.num_images > 0 && chance(rng, sim_.options.bad_image_chance)) {
    params.image_fault = static_cast<ImageFault>(1 + below(rng, 3));
  }
  return params;
}

void SimClients::begin(Client& client) {
  Ask ask;
  for (std::uint8_t& byte : ask.id.bytes) byte = static_cast<std::uint8_t>(sim_.rng());
  ask.params = draw_params();
  ask.created = ask.heard = sim_.now;
  if (chance(sim_.rng, kNeverAsked)) {  // images without a generate: they expire
    for (std::uint32_t i = 0; i < ask.params.num_images; ++i) put_image(client, ask, i);
    return;
  }
  Ask& added = client.asks.emplace(ask.id, ask).first->second;
  submit(client, added, true);
}

void SimClients::to_broker(Client& client, Event event) {
  auto shared = std::make_shared<Event>(std::move(event));
  sim_.send(client.up, 0, 3 * kMillisecond, [this, shared] { sim_.deliver(std::move(*shared)); });
}

void SimClients::put_image(Client& client, const Ask& ask, std::uint32_t index) {
  const auto bytes = std::make_shared<std::string>(encode_image(image_of(ask.params, index)));
  for (std::size_t at = 0; at < bytes->size(); at += kChunk) {
    ClientPut put;
    put.client = client.token;
    put.chunk = {ask.id, index, bytes->size(), at};
    put.bytes = std::string_view(*bytes).substr(at, kChunk);
    put.wants_answer = sim_.options.descriptors && (ask.id.bytes[0] + index) % 4 == 0;
    sim_.send(client.up, 0, kMillisecond, [this, put, bytes] { sim_.deliver(put); });
  }
}

void SimClients::submit(Client& client, Ask& ask, bool with_images) {
  if (with_images) {
    for (std::uint32_t i = 0; i < ask.params.num_images; ++i) put_image(client, ask, i);
  }
  ClientGenerate generate;
  generate.client = client.token;
  generate.request = request_of(ask.id, ask.params);
  generate.request.next_index = ask.received;
  generate.body = body_of(ask.params);
  ++client.ends_due[ask.id];
  to_broker(client, std::move(generate));
}

// A new connection: the old one's messages are lost, the broker learns of it sooner or later.
void SimClients::reconnect(Client& client) {
  const ClientToken old = client.token;
  const std::size_t index = by_token_.at(old);
  by_token_.erase(old);
  client.token = next_token_++;
  by_token_[client.token] = index;
  client.down = {};
  client.ends_due.clear();
  sim_.schedule(sim_.between(0, kSecond), [this, old] { sim_.deliver(ClientGone{old}); });
  for (auto& [id, ask] : client.asks) {
    if (ask.state != State::kRefused) submit(client, ask, false);
  }
}

void SimClients::send(ClientToken token, ClientNotice notice) {
  const auto found = by_token_.find(token);
  if (found == by_token_.end()) return;
  const std::size_t index = found->second;
  auto shared = std::make_shared<ClientNotice>(std::move(notice));
  sim_.send(clients_[index].down, 0, 3 * kMillisecond,
            [this, index, token, shared] { receive(index, token, *shared); });
}

void SimClients::receive(std::size_t index, ClientToken token, const ClientNotice& notice) {
  Client& client = clients_[index];
  if (client.token != token) return;  // of a connection that is gone
  std::visit(
      [this, &client](const auto& message) {
        if constexpr (std::is_same_v<std::decay_t<decltype(message)>, Done>) {
          if (client.ends_due[message.id] == 0)
            sim_.violate("I3: told the end twice");
          else
            --client.ends_due[message.id];
        }
        if constexpr (requires { message.id; }) {
          const auto found = client.asks.find(message.id);
          if (found == client.asks.end()) return;  // ended: a repetition it asked for itself
          found->second.heard = sim_.now;
          on(client, found->second, message);
        } else {
          follow_again(client, message.epoch);
        }
      },
      notice);
}

void SimClients::end(Client& client, Ask& ask, const char* how) {
  ++ends_[how];
  client.asks.erase(ask.id);
}

// A new broker follows only what it was asked for again.
void SimClients::follow_again(Client& client, std::uint64_t epoch) {
  for (auto& [id, ask] : client.asks) {
    if (ask.state != State::kAccepted) continue;
    ask.heard = sim_.now;
    if (ask.epoch == epoch) continue;
    ask.epoch = epoch;
    submit(client, ask, false);
  }
}

void SimClients::on(Client&, Ask& ask, const Stored& stored) {
  if (stored.image >= ask.params.num_images || (ask.id.bytes[0] + stored.image) % 4 != 0) {
    sim_.violate("stored is said of an image that asked for no answer");
  }
}

void SimClients::on(Client&, Ask& ask, const Accepted& accepted) {
  ask.epoch = accepted.epoch;
  ask.state = State::kAccepted;
  if (ask.accepted == 0) ask.accepted = sim_.now;
}

void SimClients::on(Client& client, Ask& ask, const Refused& refused) {
  const std::string told = std::string(code_name(refused.code)) + ": " + refused.message;
  if (ask.state == State::kAccepted) {
    if (refused.code == Code::kNotFound && ask.cancel_sent) return;
    return sim_.violate("I3: request " + ask.id.hex() + ", accepted " +
                        std::to_string(static_cast<double>(sim_.now - ask.accepted) * 1e-9) +
                        " s before, was refused: " + told);
  }
  if (refused.code == Code::kExhausted || refused.code == Code::kClosed) {
    if (refused.retry_after_ms == 0) sim_.violate("no retry hint: " + told);
    if (ask.state == State::kRefused) return;
    ask.state = State::kRefused;
    const std::size_t index = by_token_.at(client.token);
    sim_.schedule(Nanos{refused.retry_after_ms} * kMillisecond, [this, index, id = ask.id] {
      const auto found = clients_[index].asks.find(id);
      if (found == clients_[index].asks.end() || found->second.state != State::kRefused) return;
      found->second.state = State::kSending;
      found->second.heard = sim_.now;
      submit(clients_[index], found->second, true);
    });
    return;
  }
  const bool is_bad = ask.params.image_fault == ImageFault::kBadHeader;
  if (refused.code == Code::kInvalidArgument && is_bad) return end(client, ask, "bad_header");
  sim_.violate("refused without reason: " + told);
}

void SimClients::on(Client&, Ask& ask, const Tokens& tokens) {
  if (tokens.index > ask.received) return sim_.violate("I2: a gap in a client's stream");
  const std::uint32_t known = ask.received - tokens.index;  // after it asked again
  if (tokens.index + tokens.token_ids.size() > ask.params.num_tokens) {
    return sim_.violate("I2: more tokens than the answer has");
  }
  std::string text;
  for (std::uint32_t i = 0; i < tokens.token_ids.size(); ++i) {
    if (tokens.token_ids[i] != token_at(ask.params, tokens.index + i)) {
      return sim_.violate("I2: a wrong token");
    }
    text += text_at(ask.params, tokens.index + i);
    if (i >= known) {
      ask.text += text_at(ask.params, tokens.index + i);
      ++ask.received;
    }
  }
  if (text != tokens.text) sim_.violate("I2: wrong text '" + tokens.text + "'");
}

void SimClients::check_error(const Ask& ask, const Done& done) {
  const std::string told = std::string(code_name(done.code)) + ": " + done.error;
  switch (done.code) {
    case Code::kTimeout:
      if (ask.params.deadline_ms != 0) return;
      break;
    case Code::kQuarantined:
      if (ask.params.poison_at != UINT32_MAX || sim_.options.own_faults) return;
      break;
    case Code::kInvalidArgument:
      if (ask.params.image_fault == ImageFault::kBadPixels ||
          ask.params.image_fault == ImageFault::kEndsChild) {
        return;
      }
      break;
    case Code::kUnsupported:
      if (ask.params.worker_error != 0) return;
      break;
    default:
      break;
  }
  sim_.violate("I3: ended without reason: " + told);
}

void SimClients::on(Client& client, Ask& ask, const Done& done) {
  if (done.usage.completion_tokens != ask.received) {
    return sim_.violate("I2: done after " + std::to_string(ask.received) + " tokens of " +
                        std::to_string(done.usage.completion_tokens));
  }
  switch (done.reason) {
    case FinishReason::kStop:
    case FinishReason::kLength: {
      const bool is_length = ask.params.num_tokens == ask.params.max_tokens;
      if (ask.received != ask.params.num_tokens || done.text != tail_of(ask.params) ||
          (done.reason == FinishReason::kLength) != is_length ||
          ask.params.poison_at < ask.received) {
        sim_.violate("I2: a wrong end");
      }
      return end(client, ask, "answered");
    }
    case FinishReason::kCancelled:
      if (!ask.cancel_sent) sim_.violate("I3: cancelled by nobody");
      return end(client, ask, "cancelled");
    case FinishReason::kError:
      check_error(ask, done);
      return end(client, ask, std::string(code_name(done.code)).c_str());
  }
}

}  // namespace facet::sim
