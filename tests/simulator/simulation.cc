#include "tests/simulator/simulation.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <set>
#include <sstream>
#include <utility>

#include "broker/core/rules.h"
#include "common/base/check.h"
#include "tests/simulator/sim_clients.h"
#include "tests/simulator/sim_decoder.h"
#include "tests/simulator/sim_workers.h"

namespace facet::sim {
namespace {

constexpr std::size_t kAlignment = 4096;
constexpr double kDeathPerStep = 0.0002;          // of a broker, in the midst of a step's actions
constexpr double kDeathInRecovery = 0.05;         // before a broker serves
constexpr std::uint64_t kConservationEvery = 61;  // events; odd, so that it meets every rhythm

std::byte* make_memory(std::size_t bytes) {
  auto* memory = static_cast<std::byte*>(::operator new[](bytes, std::align_val_t{kAlignment}));
  std::memset(memory, 0, bytes);
  return memory;
}

}  // namespace

void Simulation::Free::operator()(std::byte* memory) const {
  ::operator delete[](memory, std::align_val_t{kAlignment});
}

SimOptions SimOptions::from_seed(std::uint64_t seed, std::uint64_t max_events) {
  Rng rng(mix(seed, 77));
  SimOptions o;
  o.seed = seed;
  o.max_events = max_events;
  const auto pick = [&rng](auto... choices) {
    const std::array values{choices...};
    return values[below(rng, values.size())];
  };
  o.num_workers = pick(1u, 2u, 3u, 4u);
  o.credits = pick(1u, 2u, 4u, 16u);
  o.num_clients = pick(1u, 3u, 6u);
  o.requests_per_client = pick(2u, 8u, 24u);
  o.ingest_pages = pick(40u, 96u, 400u);
  o.pixel_pages = pick(40u, 64u, 300u);
  o.crash_rate = pick(0.0, 0.3, 2.0, 8.0);
  o.hang_rate = pick(0.0, 0.3, 2.0);
  o.decoder_crash_rate = pick(0.0, 0.3, 3.0);
  o.broker_crash_rate = pick(0.0, 0.1, 0.3, 1.0);
  o.disconnect_rate = pick(0.0, 0.1, 1.0);
  o.block_rate = pick(0.0, 0.3, 3.0);
  o.cancel_chance = pick(0.0, 0.05, 0.4);
  o.poison_chance = pick(0.0, 0.01, 0.1);
  o.bad_image_chance = pick(0.0, 0.03, 0.2);
  o.preempt_chance = pick(0.0, 0.01, 0.1);
  o.duplicate_chance = pick(0.0, 0.02, 0.2);
  o.own_faults = chance(rng, 0.3);
  o.short_deadlines = chance(rng, 0.3);
  o.dispatch = pick(0u, 1u, 2u, 3u, 4u);
  return o;
}

Simulation::Simulation(const SimOptions& sim_options)
    : options(sim_options), rng(mix(sim_options.seed, 1)) {
  limits_.num_workers = options.num_workers;
  limits_.dispatch = static_cast<DispatchPolicy>(options.dispatch);
  limits_.max_queued_requests = 64;
  limits_.max_requests_per_client = 20;
  limits_.max_ingest_bytes_per_client = 4 << 20;
  limits_.max_images = 4;
  limits_.max_image_bytes = 1 << 20;
  limits_.max_tokens_limit = 512;
  limits_.deadline_default = 600 * kSecond;
  limits_.record_ttl = 30 * kSecond;
  limits_.text_reserve_extra = 64;
  limits_.max_tokens_bytes = 40;  // many messages
  limits_.max_messages_per_pump = 3;
  limits_.decode_ahead = 2;
  limits_.steps_per_ack = 3;
  const RingGeometry geometry{options.ingest_pages, options.pixel_pages};
  ring_bytes_ = ring_object_bytes(geometry);
  ring_memory_.reset(make_memory(ring_bytes_));
  ledger_memory_.reset(make_memory(kLedgerBytes));
  FACET_CHECK(format_ring(ring_memory(), geometry).has_value());
  FACET_CHECK(format_ledger({ledger_memory_.get(), kLedgerBytes}, 100).has_value());
  clients_ = std::make_unique<SimClients>(*this);
  workers_ = std::make_unique<SimWorkers>(*this);
  decoder_ = std::make_unique<SimDecoder>(*this);
}

Simulation::~Simulation() = default;

Nanos Simulation::between(Nanos low, Nanos high) {
  return low + static_cast<Nanos>(below(rng, static_cast<std::uint64_t>(high - low + 1)));
}

void Simulation::schedule(Nanos delay, std::function<void()> what) {
  queue_.push({now + delay, order_++, std::move(what)});
}

void Simulation::send(Link& link, Nanos min_delay, Nanos max_delay, std::function<void()> what) {
  link.last = std::max(link.last, now + between(min_delay, max_delay));
  queue_.push({link.last, order_++, std::move(what)});
}

void Simulation::violate(std::string what) {
  if (!violation_) violation_ = std::move(what);
}

void Simulation::deliver(Event event) {
  if (!core_ || is_over()) return;
  FACET_CHECK(!is_stepping_);
  is_stepping_ = true;
  ++num_events_;
  const bool dies = !is_calm && options.broker_crash_rate > 0 && chance(rng, kDeathPerStep);
  std::vector<std::byte> ledger_before;
  if (dies && !rule_holds(Rule::kLedgerBeforeClient)) {
    ledger_before.assign(ledger_memory().begin(), ledger_memory().end());
  }
  auto actions = core_->step(std::move(event), now);
  is_stepping_ = false;
  if (num_events_ % kConservationEvery == 0) check_conservation();
  execute(std::move(actions), dies);
  if (!ledger_before.empty()) std::ranges::copy(ledger_before, ledger_memory().begin());
  plan_tick();
}

void Simulation::execute(std::vector<Action> actions, bool dies) {
  const std::size_t survive = dies ? below(rng, actions.size() + 1) : actions.size();
  std::vector<ClientBlocked> unsent;
  std::set<ClientToken> full;
  for (std::size_t i = 0; i < survive; ++i) {
    Action& action = actions[i];
    if (auto* to_client = std::get_if<SendClient>(&action)) {
      if (full.contains(to_client->client) || !clients_->can_take(to_client->client)) {
        full.insert(to_client->client);
        unsent.push_back({to_client->client, std::move(to_client->message)});
      } else {
        clients_->send(to_client->client, std::move(to_client->message));
      }
    } else if (auto* dispatch = std::get_if<SendDispatch>(&action)) {
      workers_->dispatch(dispatch->worker, dispatch->incarnation, std::move(dispatch->dispatch));
    } else if (auto* cancel = std::get_if<SendCancel>(&action)) {
      workers_->cancel(cancel->worker, cancel->incarnation, cancel->cancel);
    } else if (auto* resume = std::get_if<SendResume>(&action)) {
      workers_->resume(resume->worker, resume->incarnation, std::move(resume->resume));
    } else if (auto* ack = std::get_if<SendAck>(&action)) {
      workers_->acknowledge(ack->worker, ack->incarnation, ack->ack);
    } else if (auto* job = std::get_if<SendDecodeJob>(&action)) {
      if (auto wrong = watch_.decode_job(ledger_memory(), ring_memory(), job->job)) {
        violate(std::move(*wrong));
      }
      decoder_->job(job->job);
    } else if (auto* stepped = std::get_if<WorkerFirstStep>(&action)) {
      workers_->first_step(stepped->worker, stepped->incarnation);
    } else if (auto* kill = std::get_if<KillWorker>(&action)) {
      violate("the core ends a worker that kept to the protocol: " + kill->why);
    } else if (std::holds_alternative<KillDecoder>(action)) {
      violate("the core ends a decoder that answers");
    } else if (auto* line = std::get_if<LogLine>(&action)) {
      if (std::getenv("FACET_SIM_TRACE") != nullptr) {
        std::fprintf(stderr, "%.6f %s\n", static_cast<double>(now) * 1e-9, line->text.c_str());
      }
    }
  }
  if (dies) {
    crash_broker();
    return;
  }
  for (ClientBlocked& blocked : unsent) deliver(std::move(blocked));
}

void Simulation::plan_tick() {
  if (!core_) return;
  const auto next = core_->next_deadline();
  if (!next) return;
  const Nanos when = std::max(*next, now + kMillisecond / 10);
  if (tick_at_ > now && tick_at_ <= when) return;
  tick_at_ = when;
  const std::uint64_t life = broker_life_;
  schedule(when - now, [this, when, life] {
    if (life != broker_life_ || when != tick_at_) return;
    tick_at_ = 0;
    deliver(TimerTick{});
  });
}

void Simulation::start_broker() {
  ++broker_life_;
  watch_.new_broker(ledger_memory());
  tick_at_ = 0;
  auto ledger = LedgerWriter::attach({ledger_memory_.get(), kLedgerBytes});
  FACET_CHECK(ledger.has_value());
  ledger_.emplace(std::move(*ledger));
  auto ring = RingWriter::attach(ring_memory(), ledger_->epoch());
  FACET_CHECK(ring.has_value());
  ring_.emplace(std::move(*ring));
  core_ = std::make_unique<BrokerCore>(limits_, sim_seams(), *ring_, *ledger_);
  auto actions = core_->recover(workers_->takeover(), now);
  check_conservation();
  const bool dies = !is_calm && options.broker_crash_rate > 0 && chance(rng, kDeathInRecovery);
  execute(std::move(actions), dies);
  if (dies) return;
  plan_tick();
  decoder_->start();
  workers_->broker_started(ledger_->epoch());
  plan_broker_crash();
}

void Simulation::plan_broker_crash() {
  if (options.broker_crash_rate <= 0) return;
  const std::uint64_t life = broker_life_;
  schedule(between(0, static_cast<Nanos>(2e9 / options.broker_crash_rate)), [this, life] {
    if (life == broker_life_ && core_ && !is_calm) crash_broker();
  });
}

void Simulation::crash_broker() {
  ++broker_crashes_;
  core_.reset();
  ring_.reset();
  ledger_.reset();
  // The decoder and its children are gone before a new one starts; workers go on.
  workers_->broker_died();
  decoder_->kill_all();
  const Nanos longest = (chance(rng, 0.7) ? 100 : 1000) * kMillisecond;
  schedule(between(25 * kMillisecond, longest), [this] { start_broker(); });
}

void Simulation::check_conservation() {
  if (!core_) return;
  const Status conserved = core_->check_conservation();
  if (!conserved) violate("conservation: " + conserved.error().message);
  if (auto late = overdue(ledger_memory(), now)) violate(std::move(*late));
}

std::uint32_t Simulation::num_received(const RequestId& id) const {
  return clients_->num_received(id);
}

bool Simulation::run_one() {
  if (queue_.empty() || is_over()) return false;
  Timed next = std::move(const_cast<Timed&>(queue_.top()));
  queue_.pop();
  FACET_CHECK(next.when >= now);
  now = next.when;
  next.what();
  return true;
}

std::optional<std::string> Simulation::run() {
  start_broker();
  clients_->start();
  while (num_events_ < options.max_events && run_one()) {
  }
  is_calm = true;
  clients_->calm_down();
  const Nanos patience = now + 700 * kSecond;  // beyond every deadline
  while (now < patience && !(clients_->all_done() && core_ && core_->is_idle()) && run_one()) {
  }
  if (!is_over()) check_end();
  return violation_;
}

void Simulation::check_end() {
  if (!core_) return violate("the broker did not come back");
  if (!clients_->all_done()) return violate("not finished: " + clients_->first_unfinished());
  if (!core_->is_idle()) return violate("finished, and the core is not idle");
  check_conservation();
  // Records end; then everything is back.
  const Nanos end = now + limits_.record_ttl + 10 * kSecond;
  schedule(end - now, [] {});
  while (now < end && run_one()) {
  }
  check_conservation();
  const CoreStatus status = core_->status();
  if (status.ingest.used + status.pixels.used + status.ledger.used + status.ledger.records != 0) {
    violate("at the end " + std::to_string(status.ingest.used) + " ingest and " +
            std::to_string(status.pixels.used) + " pixel pages and " +
            std::to_string(status.ledger.records) + " records are still taken");
  }
}

std::string Simulation::summary() const {
  std::ostringstream out;
  out << "seed " << options.seed << ": " << num_events_ << " events, "
      << static_cast<double>(now) * 1e-9 << " s, " << workers_->num_deaths() << " worker deaths, "
      << broker_crashes_ << " broker crashes, " << clients_->describe();
  return out.str();
}

}  // namespace facet::sim
