#include "tests/simulator/sim_decoder.h"

#include <cstring>
#include <utility>

#include "common/shm/ring.h"

namespace facet::sim {

void SimDecoder::start() {
  ++broker_;
  start_life();
}

void SimDecoder::kill_all() {
  ++broker_;
  if (life_) life_->is_up = life_->children_live = false;
  life_.reset();
}

void SimDecoder::start_life() {
  auto life = std::make_shared<Life>();
  const std::uint64_t broker = broker_;
  sim_.send(control_, 0, 20 * kMillisecond, [this, broker, life] {
    if (broker != broker_) return;
    life_ = life;  // the broker's end of its socket comes with this word
    sim_.deliver(DecoderUp{});
  });
  if (sim_.options.decoder_crash_rate <= 0) return;
  const auto longest = static_cast<Nanos>(2e9 / sim_.options.decoder_crash_rate);
  sim_.schedule(sim_.between(0, longest), [this, life, broker] {
    if (broker == broker_ && life->is_up && !sim_.is_calm) crash(life);
  });
}

void SimDecoder::crash(const LifePtr& life) {
  life->is_up = false;
  life->answers_late = chance(sim_.rng, 0.5);
  const std::uint64_t broker = broker_;
  sim_.schedule(sim_.between(0, 100 * kMillisecond), [this, life, broker] {
    life->children_live = false;
    if (broker != broker_) return;
    sim_.send(control_, 0, 5 * kMillisecond, [this, broker] {
      if (broker == broker_) sim_.deliver(DecoderReaped{});
    });
    start_life();
  });
}

std::uint64_t SimDecoder::slot_word(const DecodeJob& job) {
  const auto object = sim_.ring_memory();
  const auto& header = *reinterpret_cast<const RingHeader*>(object.data());
  const auto slot = (job.pixels_offset - header.payload_offset) / kRingPageBytes;
  const auto* slots = reinterpret_cast<const RingSlot*>(object.data() + kRingSlotTableOffset);
  return slots[slot].state_gen.load();
}

DecodeOutcome SimDecoder::decode(const DecodeJob& job, std::uint64_t word_before) {
  constexpr std::uint64_t kGeneration = (1ull << 56) - 1;
  const std::uint64_t word = slot_word(job);
  const auto state = static_cast<SlotState>(word >> 56);
  if ((word & kGeneration) != (word_before & kGeneration) ||
      (state != SlotState::kWriting && state != SlotState::kRetired)) {
    sim_.violate("I1: a decoder child writes into pages that are not its own any more");
    return DecodeOutcome::kOk;
  }
  const auto object = sim_.ring_memory();
  auto* bytes = reinterpret_cast<std::uint8_t*>(object.data());
  ImageFault fault{};
  const std::uint64_t seed = read_encoded({bytes + job.encoded_offset, job.encoded_bytes}, fault);
  if (seed == 0) {
    sim_.violate("I1: encoded bytes of another image");
    return DecodeOutcome::kOk;
  }
  if (fault == ImageFault::kBadPixels) return DecodeOutcome::kBadImage;
  if (fault == ImageFault::kEndsChild) return DecodeOutcome::kChildFault;
  if (!sim_.is_calm && chance(sim_.rng, 0.02)) return DecodeOutcome::kChildKilled;
  write_pixels(seed, {bytes + job.pixels_offset, job.pixels_bytes});
  return DecodeOutcome::kOk;
}

void SimDecoder::job(const DecodeJob& job) {
  const LifePtr life = life_;
  if (!life || !life->is_up) return;
  const std::uint64_t before = slot_word(job);
  sim_.schedule(sim_.between(kMillisecond / 10, 20 * kMillisecond), [this, life, job, before] {
    if (!life->children_live) return;
    const DecodeOutcome outcome = decode(job, before);
    DecoderReply reply;
    reply.reply.job = job.job;
    reply.reply.outcome = outcome;
    std::strcpy(reply.reply.message, "simulated");
    sim_.send(life->up, 0, kMillisecond, [this, life, reply] {
      if (life->is_up) {
        sim_.deliver(reply);
      } else if (life->answers_late) {
        const std::uint64_t broker = broker_;
        sim_.schedule(sim_.between(0, 200 * kMillisecond), [this, reply, broker] {
          if (broker == broker_) sim_.deliver(reply);
        });
      }
    });
  });
}

}  // namespace facet::sim
