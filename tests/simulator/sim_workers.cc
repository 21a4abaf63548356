#include "tests/simulator/sim_workers.h"

#include <algorithm>
#include <utility>

#include "worker/service/output_log.h"

namespace facet::sim {
namespace {

constexpr Nanos kNoticed = 20 * kMillisecond;  // a broker's death, by the supervisor
constexpr std::size_t kDeathsKept = 16;        // as the supervisor's core does, for each worker

}  // namespace

struct SimWorkers::Sequence {
  RequestParams params;
  std::vector<ImageDescriptor> images;
  std::uint32_t next = 0;
  bool released = false;
  bool keeps_images = false;  // to its end
  bool cancelled = false;
};

struct SimWorkers::Process {
  std::uint32_t index = 0;
  std::uint64_t incarnation = 0;
  bool is_running = true;    // executes and reads
  bool is_declared = false;  // the broker is or will be told that it is dead
  bool drops_tail = false;   // what it had sent and was not delivered is lost
  bool has_plan = false;
  bool has_served = false;  // said hello to some broker
  bool is_cut = false;      // nothing more comes from that of `epoch`
  bool is_resumed = false;  // that of `epoch` has answered
  std::uint64_t epoch = 0;  // of the broker that it speaks to
  OutputLog log;
  std::uint64_t steps = 0;
  std::map<Key, Sequence> sequences;
  Link up;
  Link down;
};

SimWorkers::SimWorkers(Simulation& sim)
    : sim_(sim), processes_(sim.options.num_workers), started_(sim.options.num_workers) {}
SimWorkers::~SimWorkers() = default;

Takeover SimWorkers::takeover() {
  Takeover told;
  for (const ProcessPtr& process : processes_) {
    if (!process) continue;
    told.living.push_back({process->index, process->incarnation, 1, process->has_served});
    started_[process->index] = process->incarnation;
  }
  for (const auto& death : deaths_) told.deaths.push_back(death->dead);
  return told;
}

void SimWorkers::broker_started(std::uint64_t epoch) {
  ++life_;
  page_epoch_ = epoch;
  control_ = {};
  first_steps_.clear();
  // The broker has heard of all deaths when it took over.
  for (const auto& death : deaths_) tell_dead(death);
  for (const ProcessPtr& process : processes_) {
    if (!process) continue;
    // Between two steps; now and then a step takes long.
    const Nanos longest = chance(sim_.rng, 0.05) ? 8 * kSecond : 300 * kMillisecond;
    sim_.schedule(sim_.between(0, longest), [this, process] { connect(process); });
  }
  start_absent();
}

void SimWorkers::broker_died() {
  const std::uint64_t life = ++life_;
  sim_.schedule(sim_.between(0, kNoticed), [this, life] {
    if (life == life_) page_epoch_ = 0;
  });
}

void SimWorkers::start_absent() {
  for (std::uint32_t i = 0; i < processes_.size(); ++i) {
    if (!processes_[i]) start(i);
  }
}

void SimWorkers::start(std::uint32_t index) {
  auto process = std::make_shared<Process>();
  process->index = index;
  process->incarnation = next_incarnation_++;
  processes_[index] = process;
  const std::uint64_t life = life_;
  sim_.send(control_, 0, 5 * kMillisecond, [this, process, life] {
    if (life != life_) return;
    started_[process->index] = process->incarnation;
    sim_.deliver(WorkerStarted{process->index, process->incarnation, 1});
  });
  // Loading takes a moment; the hello can overtake the supervisor's word.
  sim_.schedule(sim_.between(0, 400 * kMillisecond), [this, process] { connect(process); });
  plan_faults(process);
}

void SimWorkers::connect(const ProcessPtr& process) {
  if (!process->is_running || page_epoch_ == 0 || process->epoch == page_epoch_) return;
  process->epoch = page_epoch_;
  process->is_resumed = process->is_cut = false;
  process->has_served = true;
  process->up = process->down = {};
  WorkerHello hello;
  hello.epoch = process->epoch;
  hello.hello.worker = process->index;
  hello.hello.incarnation = process->incarnation;
  hello.hello.credits = sim_.options.credits;
  hello.hello.model = sim_facts();
  hello.hello.held = process->log.held();
  sim_.send(process->up, 0, 3 * kMillisecond, [this, process, hello] {
    if (process->is_running || !process->drops_tail) sim_.deliver(hello);
  });
}

void SimWorkers::to_worker(std::uint32_t worker, std::uint64_t incarnation,
                           std::function<void(const ProcessPtr&)> what) {
  const ProcessPtr process = processes_.at(worker);
  if (!process || process->incarnation != incarnation) return;
  const std::uint64_t epoch = sim_.epoch();
  sim_.send(process->down, 0, longest_delay(), [this, process, epoch, what = std::move(what)] {
    const bool is_current = process->epoch == epoch && page_epoch_ == epoch;
    // Of what a broker said before its death a part arrives, in order.
    if (is_current && sim_.epoch() != epoch && chance(sim_.rng, 0.5)) process->is_cut = true;
    if (process->is_running && is_current && !process->is_cut) what(process);
  });
}

// Now and then much is on its way when a broker dies.
Nanos SimWorkers::longest_delay() {
  return (chance(sim_.rng, 0.1) ? 60 : 2) * kMillisecond;
}

void SimWorkers::resume(std::uint32_t worker, std::uint64_t incarnation, Resume answer) {
  // It may be in the midst of a step, which reads what the answer makes it drop.
  const ProcessPtr answered = processes_.at(worker);
  if (answered && chance(sim_.rng, 0.3)) {
    answered->down.last = sim_.now + sim_.between(0, 100 * kMillisecond);
  }
  to_worker(worker, incarnation, [this, answer = std::move(answer)](const ProcessPtr& process) {
    const auto cancelled = process->log.resume(answer);
    if (!cancelled) return sim_.violate(cancelled.error().message);
    for (const OutputLog::Key& key : *cancelled) {
      const auto found = process->sequences.find({key.id, key.attempt});
      if (found != process->sequences.end()) found->second.cancelled = true;
    }
    process->is_resumed = true;
    report(process);
  });
}

void SimWorkers::acknowledge(std::uint32_t worker, std::uint64_t incarnation, const StepAck& ack) {
  to_worker(worker, incarnation,
            [ack](const ProcessPtr& process) { process->log.acknowledge(ack.step); });
}

void SimWorkers::plan_faults(const ProcessPtr& process) {
  const auto after = [this](double rate) {
    return sim_.between(0, static_cast<Nanos>(2e9 / rate));
  };
  if (sim_.options.crash_rate > 0) {
    sim_.schedule(after(sim_.options.crash_rate), [this, process] {
      if (process->is_running && !sim_.is_calm) {
        die(process, sim_.options.own_faults && chance(sim_.rng, 0.3));
      }
    });
  }
  if (sim_.options.hang_rate > 0) {
    sim_.schedule(after(sim_.options.hang_rate), [this, process] {
      if (!process->is_running || process->is_declared || sim_.is_calm) return;
      report_death(process, sim_.options.own_faults && chance(sim_.rng, 0.3));
    });
  }
}

void SimWorkers::die(const ProcessPtr& process, bool own_fault) {
  process->is_running = false;
  process->drops_tail = chance(sim_.rng, 0.5);
  report_death(process, own_fault);
}

// Dead now (or taken for dead); running until reaped when it only hangs.
void SimWorkers::report_death(const ProcessPtr& process, bool own_fault) {
  if (process->is_declared) return;
  process->is_declared = true;
  ++num_deaths_;
  auto death = std::make_shared<Death>();
  death->dead = {process->index, process->incarnation, own_fault, -9};
  for (const auto& [key, sequence] : process->sequences) {
    const bool is_its_doing = own_fault && !process->is_running;
    if (is_its_doing && sequence.params.poison_at <= sequence.next) {
      death->poison.push_back(key.first);
    }
  }
  deaths_.push_back(death);
  if (deaths_.size() > kDeathsKept * processes_.size()) deaths_.pop_front();
  const std::uint64_t life = life_;
  sim_.send(control_, 0, 20 * kMillisecond, [this, death, life] {
    if (life != life_ || sim_.core() == nullptr) return;
    sim_.deliver(death->dead);
    tell_dead(death);
  });
  sim_.schedule(sim_.between(0, 300 * kMillisecond), [this, process] { reap(process); });
}

void SimWorkers::tell_dead(const std::shared_ptr<Death>& death) {
  if (std::exchange(death->is_counted, true)) return;
  for (const RequestId& id : death->poison) {
    if (++poison_deaths_[id] > 2) sim_.violate("a poison request ended three workers");
  }
}

void SimWorkers::reap(const ProcessPtr& process) {
  process->is_running = false;
  if (processes_[process->index] == process) processes_[process->index].reset();
  const std::uint64_t life = life_;
  sim_.send(control_, 0, 5 * kMillisecond, [this, process, life] {
    if (life == life_) sim_.deliver(WorkerReaped{process->index, process->incarnation});
  });
  sim_.schedule(sim_.between(0, 200 * kMillisecond), [this, process] {
    // Without a broker nobody is started; the next one's start makes up for it.
    if (page_epoch_ != 0 && page_epoch_ == sim_.epoch() && !processes_[process->index]) {
      start(process->index);
    }
  });
}

void SimWorkers::check_exposure(const Process& process, const RequestParams& params,
                                const RequestId& id) {
  // After its first death a poison request runs alone, and so does each that was with it.
  const std::set<RequestId> suspects = suspects_in(sim_.ledger_memory());
  const bool is_known = params.poison_at != UINT32_MAX && poison_deaths_.contains(id);
  if ((is_known || suspects.contains(id)) && !process.sequences.empty()) {
    sim_.violate("a suspect does not run alone");
  }
  for (const auto& [key, sequence] : process.sequences) {
    if (suspects.contains(key.first)) sim_.violate("a request joins a suspect");
  }
}

void SimWorkers::dispatch(std::uint32_t worker, std::uint64_t incarnation, DispatchOrder dispatch) {
  if (dispatch.committed.size() < sim_.num_received(dispatch.id)) {
    sim_.violate("a dispatch without all tokens that the client was told");
  }
  to_worker(worker, incarnation, [this, d = std::move(dispatch)](const ProcessPtr& process) {
    if (!process->is_resumed) sim_.violate("a dispatch before the answer to the hello");
    Sequence sequence;
    sequence.params = params_of(d.body);
    sequence.images = d.images;
    sequence.keeps_images = chance(sim_.rng, 0.5);
    sequence.next = static_cast<std::uint32_t>(d.committed.size());
    if (!process->is_declared) check_exposure(*process, sequence.params, d.id);
    for (std::uint32_t i = 0; i < sequence.next; ++i) {
      if (d.committed[i] != token_at(sequence.params, i)) sim_.violate("wrong committed tokens");
    }
    if (d.images.size() != sequence.params.num_images) sim_.violate("images missing in dispatch");
    process->log.open({d.id, d.attempt}, sequence.next, !d.images.empty());
    process->sequences.emplace(Key{d.id, d.attempt}, std::move(sequence));
    if (process->sequences.size() > sim_.options.credits) {
      sim_.violate("more dispatches at a worker than its credits");
    }
    plan_step(process);
  });
}

void SimWorkers::cancel(std::uint32_t worker, std::uint64_t incarnation,
                        const CancelSequence& cancel) {
  to_worker(worker, incarnation, [cancel](const ProcessPtr& process) {
    const auto found = process->sequences.find({cancel.id, cancel.attempt});
    if (found != process->sequences.end()) found->second.cancelled = true;
  });
}

void SimWorkers::plan_step(const ProcessPtr& process) {
  if (process->has_plan || process->sequences.empty()) return;
  process->has_plan = true;
  sim_.schedule(sim_.between(kMillisecond, 15 * kMillisecond), [this, process] {
    process->has_plan = false;
    if (process->is_running && !sim_.is_over()) step(process);
  });
}

// I1: what is read is this request's, at every moment until it is released.
void SimWorkers::read_images(const Process& process, const Key& key, const Sequence& sequence) {
  if (sequence.released) return;
  const auto reader = RingReader::attach(sim_.ring_memory());
  for (std::uint32_t i = 0; i < sequence.images.size(); ++i) {
    const ImageDescriptor& d = sequence.images[i];
    const auto pixels = reader->pixels({d.slot, d.generation, d.offset, d.width, d.height});
    // A request may be finished behind the worker's back: the slot is RETIRED then, never reused.
    if (!pixels) {
      const auto& slot = reinterpret_cast<const RingSlot*>(sim_.ring_memory().data() +
                                                           kRingSlotTableOffset)[d.slot];
      if (slot.state_gen.load() != pack_state(SlotState::kRetired, d.generation)) {
        sim_.violate("I1: worker " + std::to_string(process.index) + " attempt " +
                     std::to_string(key.second) + " holds a slot that was freed");
      }
    } else if (!pixels_are(image_of(sequence.params, i).seed, *pixels)) {
      sim_.violate("I1: another image's pixels");
    }
  }
}

// One sequence's part of a step. False: it ended its process.
bool SimWorkers::advance(const ProcessPtr& process, const Key& key, Sequence& sequence,
                         SequenceUpdate& update) {
  Rng& rng = sim_.rng;
  const RequestParams& params = sequence.params;
  update.id = key.first;
  update.attempt = key.second;
  update.index = sequence.next;
  if (sequence.cancelled) {
    update.ended = true;
    update.end.kind = SequenceEnd::Kind::kCancelled;
    return true;
  }
  if (params.worker_error != 0) {
    update.ended = true;
    update.end.kind = SequenceEnd::Kind::kError;
    update.end.code = Code::kUnsupported;
    update.end.message = "not for this model";
    return true;
  }
  read_images(*process, key, sequence);
  const auto count = static_cast<std::uint32_t>(below(rng, 4));
  for (std::uint32_t i = 0; i < count && sequence.next < params.num_tokens; ++i) {
    if (sequence.next >= params.poison_at) return false;
    update.token_ids.push_back(token_at(params, sequence.next));
    update.token_texts.push_back(text_at(params, sequence.next));
    ++sequence.next;
  }
  if (sequence.next >= params.num_tokens) {
    update.ended = true;
    update.end.kind = params.num_tokens == params.max_tokens ? SequenceEnd::Kind::kLength
                                                             : SequenceEnd::Kind::kStop;
    update.end.text = tail_of(params);
    update.end.prompt_tokens = 7;
  } else if (chance(rng, sim_.options.preempt_chance)) {
    update.ended = true;
    update.end.kind = SequenceEnd::Kind::kPreempted;
  } else if (!sequence.images.empty() && !sequence.released && !sequence.keeps_images &&
             sequence.next > 0 &&
             chance(rng, 0.3)) {
    update.images_released = sequence.released = true;
  }
  return true;
}

void SimWorkers::step(const ProcessPtr& process) {
  Step repeated;
  repeated.incarnation = process->incarnation;
  for (auto it = process->sequences.begin(); it != process->sequences.end();) {
    auto& [key, sequence] = *it;
    SequenceUpdate update;
    if (!advance(process, key, sequence, update)) {
      if (process->is_declared)
        process->is_running = false;
      else
        die(process, true);
      return;
    }
    const bool is_over = update.ended;
    if (!is_over && !update.token_ids.empty() &&
        chance(sim_.rng, sim_.options.duplicate_chance)) {
      repeated.updates.push_back(update);
    }
    process->log.add(std::move(update));
    it = is_over ? process->sequences.erase(it) : std::next(it);
  }
  const bool could_report = process->is_resumed;
  report(process);
  repeated.step = process->steps;
  if (could_report && !repeated.updates.empty()) to_broker(process, std::move(repeated));
  plan_step(process);
}

// To the broker that it speaks to, which may be dead by now.
void SimWorkers::report(const ProcessPtr& process) {
  while (process->is_resumed && process->log.has_unsent()) {
    Step message;
    message.incarnation = process->incarnation;
    message.step = ++process->steps;
    message.updates = process->log.take_unsent(message.step, 1 + below(sim_.rng, 64));
    to_broker(process, std::move(message));
  }
}

void SimWorkers::to_broker(const ProcessPtr& process, Step message) {
  const std::uint64_t epoch = process->epoch;
  sim_.send(process->up, 0, longest_delay(),
            [this, process, epoch, m = std::move(message)]() mutable {
    if (!process->is_running && process->drops_tail) return;
    if (epoch != sim_.epoch()) {
      // What waits for a broker that died may reach the next one.
      if (chance(sim_.rng, 0.5)) repeat_late(process->index, m, epoch);
      return;
    }
    if (chance(sim_.rng, sim_.options.duplicate_chance)) repeat_late(process->index, m, epoch);
    sim_.deliver(WorkerStep{process->index, std::move(m), epoch});
  });
}

// The same message once more, whatever has become of the process and its sequences.
void SimWorkers::repeat_late(std::uint32_t worker, const Step& step, std::uint64_t epoch) {
  const Nanos latest = (chance(sim_.rng, 0.5) ? 30 : 600) * kMillisecond;
  sim_.schedule(sim_.between(0, latest), [this, worker, step, epoch] {
    sim_.deliver(WorkerStep{worker, step, epoch});
  });
}

void SimWorkers::first_step(std::uint32_t worker, std::uint64_t incarnation) {
  if (incarnation != started_[worker]) sim_.violate("a first step of a former incarnation");
  if (!first_steps_.insert(incarnation).second) sim_.violate("a first step twice");
}

}  // namespace facet::sim
