#include "tests/simulator/sim_workers.h"

#include <algorithm>
#include <utility>

namespace facet::sim {

struct SimWorkers::Sequence {
  RequestParams params;
  std::vector<ImageDescriptor> images;
  std::uint32_t next = 0;
  bool released = false;
  bool cancelled = false;
};

struct SimWorkers::Process {
  std::uint32_t index = 0;
  std::uint64_t incarnation = 0;
  bool is_running = true;    // executes and reads
  bool is_declared = false;  // the broker is or will be told that it is dead
  bool drops_tail = false;   // what it had sent and was not delivered is lost
  bool has_plan = false;
  std::uint64_t steps = 0;
  std::map<Key, Sequence> sequences;
  Link up;
  Link down;
};

SimWorkers::SimWorkers(Simulation& sim)
    : sim_(sim), processes_(sim.options.num_workers), started_(sim.options.num_workers) {}
SimWorkers::~SimWorkers() = default;

void SimWorkers::start_all() {
  ++life_;
  for (std::uint32_t i = 0; i < processes_.size(); ++i) start(i);
}

void SimWorkers::kill_all() {
  ++life_;
  for (ProcessPtr& process : processes_) {
    if (process) process->is_running = false;
    process.reset();
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
  sim_.send(process->up, 0, 400 * kMillisecond, [this, process, life] {
    if (life != life_ || !process->is_running) return;
    WorkerHello hello;
    hello.hello.worker = process->index;
    hello.hello.incarnation = process->incarnation;
    hello.hello.credits = sim_.options.credits;
    hello.hello.model = sim_facts();
    sim_.deliver(std::move(hello));
  });
  plan_faults(process);
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
      report_death(process, sim_.options.own_faults && chance(sim_.rng, 0.3), false);
    });
  }
}

void SimWorkers::die(const ProcessPtr& process, bool own_fault) {
  process->is_running = false;
  process->drops_tail = chance(sim_.rng, 0.5);
  report_death(process, own_fault, false);
}

// Dead now (or taken for dead); running until reaped when it only hangs.
void SimWorkers::report_death(const ProcessPtr& process, bool own_fault, bool) {
  if (process->is_declared) return;
  process->is_declared = true;
  ++num_deaths_;
  const std::uint64_t life = life_;
  std::vector<RequestId> poison;
  for (const auto& [key, sequence] : process->sequences) {
    if (sequence.params.poison_at <= sequence.next) poison.push_back(key.first);
  }
  sim_.send(control_, 0, 20 * kMillisecond, [this, process, own_fault, life, poison] {
    if (life != life_) return;
    sim_.deliver(WorkerDead{process->index, process->incarnation, own_fault, -9});
    if (!own_fault || process->is_running) return;
    for (const RequestId& id : poison) {
      if (++poison_deaths_[id] > 2) sim_.violate("a poison request ended three workers");
    }
  });
  const Nanos reaping = sim_.between(0, 300 * kMillisecond);
  sim_.schedule(reaping, [this, process, life] {
    process->is_running = false;
    if (life != life_) return;
    sim_.send(control_, 0, 5 * kMillisecond, [this, process, life] {
      if (life != life_) return;
      sim_.deliver(WorkerReaped{process->index, process->incarnation});
    });
    sim_.schedule(sim_.between(0, 200 * kMillisecond), [this, process, life] {
      if (life == life_) start(process->index);
    });
  });
}

void SimWorkers::check_exposure(const Process& process, const RequestParams& params,
                                const RequestId& id) {
  // After its first death a poison request runs alone, and at one worker only.
  const auto deaths = poison_deaths_.find(id);
  const bool is_known = params.poison_at != UINT32_MAX && deaths != poison_deaths_.end();
  if (is_known && !process.sequences.empty()) sim_.violate("a suspect does not run alone");
  for (const auto& [key, sequence] : process.sequences) {
    if (sequence.params.poison_at != UINT32_MAX && poison_deaths_.contains(key.first)) {
      sim_.violate("a request joins a suspect");
    }
  }
}

void SimWorkers::dispatch(std::uint32_t worker, std::uint64_t incarnation, Dispatch dispatch) {
  const ProcessPtr process = processes_.at(worker);
  if (dispatch.committed.size() < sim_.num_received(dispatch.request.id)) {
    sim_.violate("a dispatch without all tokens that the client was told");
  }
  if (!process || process->incarnation != incarnation) return;
  sim_.send(process->down, 0, 2 * kMillisecond, [this, process, d = std::move(dispatch)] {
    if (!process->is_running) return;
    Sequence sequence;
    sequence.params = params_of(d.request);
    sequence.images = d.images;
    sequence.next = static_cast<std::uint32_t>(d.committed.size());
    if (!process->is_declared) check_exposure(*process, sequence.params, d.request.id);
    for (std::uint32_t i = 0; i < sequence.next; ++i) {
      if (d.committed[i] != token_at(sequence.params, i)) sim_.violate("wrong committed tokens");
    }
    if (d.images.size() != sequence.params.num_images) sim_.violate("images missing in dispatch");
    process->sequences.emplace(Key{d.request.id, d.attempt}, std::move(sequence));
    if (process->sequences.size() > sim_.options.credits) {
      sim_.violate("more dispatches at a worker than its credits");
    }
    plan_step(process);
  });
}

void SimWorkers::cancel(std::uint32_t worker, std::uint64_t incarnation,
                        const CancelSequence& cancel) {
  const ProcessPtr process = processes_.at(worker);
  if (!process || process->incarnation != incarnation) return;
  sim_.send(process->down, 0, 2 * kMillisecond, [process, cancel] {
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
  } else if (!sequence.images.empty() && !sequence.released && sequence.next > 0 &&
             chance(rng, 0.3)) {
    update.images_released = sequence.released = true;
  }
  return true;
}

void SimWorkers::step(const ProcessPtr& process) {
  Step message;
  Step repeated;
  message.incarnation = repeated.incarnation = process->incarnation;
  message.step = repeated.step = ++process->steps;
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
    if (!update.ended && !update.token_ids.empty() &&
        chance(sim_.rng, sim_.options.duplicate_chance)) {
      repeated.updates.push_back(update);
    }
    const bool is_over = update.ended;
    message.updates.push_back(std::move(update));
    it = is_over ? process->sequences.erase(it) : std::next(it);
  }
  to_broker(process, std::move(message));
  if (!repeated.updates.empty()) to_broker(process, std::move(repeated));
  plan_step(process);
}

void SimWorkers::to_broker(const ProcessPtr& process, Step message) {
  sim_.send(process->up, 0, 3 * kMillisecond, [this, process, m = std::move(message)]() mutable {
    if (!process->is_running && process->drops_tail) return;
    if (chance(sim_.rng, sim_.options.duplicate_chance)) repeat_late(process->index, m);
    sim_.deliver(WorkerStep{process->index, std::move(m)});
  });
}

// The same message once more, whatever has become of the process and its sequences.
void SimWorkers::repeat_late(std::uint32_t worker, const Step& step) {
  const Nanos latest = (chance(sim_.rng, 0.5) ? 30 : 600) * kMillisecond;
  const std::uint64_t life = life_;
  sim_.schedule(sim_.between(0, latest), [this, worker, step, life] {
    if (life == life_) sim_.deliver(WorkerStep{worker, step});
  });
}

void SimWorkers::first_step(std::uint32_t worker, std::uint64_t incarnation) {
  if (incarnation != started_[worker]) sim_.violate("a first step of a former incarnation");
  if (!first_steps_.insert(incarnation).second) sim_.violate("a first step twice");
}

}  // namespace facet::sim
