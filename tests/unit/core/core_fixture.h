// A core on plain memory, driven by hand: one event at a time, its actions sorted by kind.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/core/broker_core.h"
#include "tests/unit/shm/aligned_memory.h"

namespace facet {

// An "image": "W H" or "bad", padded to its size.
inline std::string fake_image(int width, int height, std::size_t bytes = 100) {
  std::string image = std::to_string(width) + " " + std::to_string(height) + " ";
  image.resize(std::max(bytes, image.size()), '.');
  return image;
}

class CoreFixture : public testing::Test {
 protected:
  CoreFixture() : ring_memory(ring_object_bytes(geometry)), ledger_memory(512 << 10) {
    EXPECT_TRUE(format_ring(ring_memory.span(), geometry).has_value());
    EXPECT_TRUE(format_ledger(ledger_memory.span(), 40).has_value());
    limits.num_workers = 2;
    limits.max_tokens_default = 8;
    limits.max_tokens_limit = 64;
    start();
  }

  // A first or a next broker on the same memory.
  void start() {
    core.reset();
    ledger.emplace(std::move(LedgerWriter::attach(ledger_memory.span()).value()));
    ring.emplace(std::move(RingWriter::attach(ring_memory.span(), ledger->epoch()).value()));
    CoreSeams seams;
    seams.probe_image = [](std::span<const std::uint8_t> bytes) -> Result<ProbedImage> {
      const std::string text(bytes.begin(), bytes.end());
      ProbedImage probed{1, 0, 0};
      if (std::sscanf(text.c_str(), "%u %u", &probed.width, &probed.height) != 2) {
        return Error(Code::kInvalidArgument, "not an image");
      }
      return probed;
    };
    seams.parse_request = [](std::string_view body) -> Result<GenerateRequest> {
      if (body.substr(0, 4) != "ask ") return Error(Code::kCorrupt, "not a request");
      return request(0, static_cast<std::uint32_t>(body[4] - '0'));
    };
    core = std::make_unique<BrokerCore>(limits, std::move(seams), *ring, *ledger);
    take(core->recover(takeover, now));
  }

  static RequestId id(std::uint8_t number) {
    RequestId request_id;
    request_id.bytes[0] = number;
    return request_id;
  }
  static GenerateRequest request(std::uint8_t number, std::uint32_t images = 0) {
    GenerateRequest r;
    r.id = id(number);
    r.num_images = images;
    Message message;
    message.role = "user";
    for (std::uint32_t i = 0; i < images; ++i) {
      message.content.push_back({ContentPart::Kind::kImage, "", i});
    }
    message.content.push_back({ContentPart::Kind::kText, "what is it", 0});
    r.messages.push_back(message);
    return r;
  }

  void step(Event event) { take(core->step(std::move(event), now)); }
  void tick(Nanos later = 0) {
    now += later;
    step(TimerTick{});
  }
  void generate(GenerateRequest r, ClientToken client = 1) {
    const std::string body = "ask " + std::to_string(r.num_images) +
                             (r.sampling.seed == 0 ? "" : std::to_string(r.sampling.seed));
    step(ClientGenerate{client, std::move(r), body});
  }
  void put(std::uint8_t number, std::uint32_t image, const std::string& bytes,
           ClientToken client = 1) {
    step(ClientPut{client, {id(number), image, bytes.size(), 0}, bytes});
  }
  // As the whole content of a descriptor.
  void hand_over(std::uint8_t number, std::uint32_t image, const std::string& bytes,
                 ClientToken client = 7) {
    step(ClientPut{client, {id(number), image, bytes.size(), 0}, bytes, {}, 0, true});
  }
  void ask_with_images(std::uint8_t number, std::uint32_t images, int side = 100) {
    for (std::uint32_t i = 0; i < images; ++i) put(number, i, fake_image(side, side));
    generate(request(number, images));
  }
  // Worker `index` in its life `incarnation` is ready.
  void worker_up(std::uint32_t index, std::uint64_t incarnation, std::uint32_t credits = 4) {
    step(WorkerStarted{index, incarnation, 1});
    Hello hello;
    hello.worker = index;
    hello.incarnation = incarnation;
    hello.credits = credits;
    hello.model.max_images = 8;
    step(WorkerHello{hello, ledger->epoch()});
  }
  SequenceUpdate update(std::uint8_t number, std::uint32_t attempt, std::uint32_t index,
                        std::vector<std::int32_t> ids) {
    SequenceUpdate u;
    u.id = id(number);
    u.attempt = attempt;
    u.index = index;
    for (std::int32_t token : ids) u.token_texts.push_back("t" + std::to_string(token) + " ");
    u.token_ids = std::move(ids);
    return u;
  }
  void worker_says(std::uint32_t worker, std::uint64_t incarnation, SequenceUpdate u) {
    Step message;
    message.incarnation = incarnation;
    message.updates.push_back(std::move(u));
    step(WorkerStep{worker, std::move(message), ledger->epoch()});
  }
  SequenceUpdate ending(std::uint8_t number, std::uint32_t attempt, std::uint32_t index,
                        SequenceEnd::Kind kind = SequenceEnd::Kind::kStop) {
    SequenceUpdate u = update(number, attempt, index, {});
    u.ended = true;
    u.end.kind = kind;
    return u;
  }
  void decode_all(DecodeOutcome outcome = DecodeOutcome::kOk) {
    while (!jobs.empty()) {
      DecodeReply reply;
      reply.job = jobs.front().job;
      reply.outcome = outcome;
      jobs.erase(jobs.begin());
      step(DecoderReply{reply});
    }
  }
  template <class Notice>
  std::vector<Notice> told(ClientToken client = 1) {
    std::vector<Notice> found;
    for (const SendClient& sent : notices) {
      if (sent.client != client) continue;
      if (const auto* notice = std::get_if<Notice>(&sent.message)) found.push_back(*notice);
    }
    return found;
  }
  void forget() {
    notices.clear();
    dispatches.clear();
    cancels.clear();
    resumes.clear();
    acks.clear();
    kills.clear();
  }
  void expect_conserved() {
    const Status conserved = core->check_conservation();
    EXPECT_TRUE(conserved.has_value()) << conserved.error().message;
  }

  void take(std::vector<Action> actions) {
    for (Action& action : actions) {
      if (auto* notice = std::get_if<SendClient>(&action)) notices.push_back(std::move(*notice));
      if (auto* dispatch = std::get_if<SendDispatch>(&action)) dispatches.push_back(*dispatch);
      if (auto* cancel = std::get_if<SendCancel>(&action)) cancels.push_back(*cancel);
      if (auto* resume = std::get_if<SendResume>(&action)) resumes.push_back(*resume);
      if (auto* ack = std::get_if<SendAck>(&action)) acks.push_back(*ack);
      if (auto* job = std::get_if<SendDecodeJob>(&action)) jobs.push_back(job->job);
      if (auto* kill = std::get_if<KillWorker>(&action)) kills.push_back(*kill);
      if (std::holds_alternative<KillDecoder>(action)) ++decoder_kills;
    }
    expect_conserved();
  }

  const RingGeometry geometry{64, 64};
  AlignedMemory ring_memory;
  AlignedMemory ledger_memory;
  CoreLimits limits;
  std::optional<RingWriter> ring;
  std::optional<LedgerWriter> ledger;
  std::unique_ptr<BrokerCore> core;
  Takeover takeover;  // what start() tells the next broker
  Nanos now = kSecond;
  std::vector<SendClient> notices;
  std::vector<SendDispatch> dispatches;
  std::vector<SendCancel> cancels;
  std::vector<SendResume> resumes;
  std::vector<SendAck> acks;
  std::vector<DecodeJob> jobs;
  std::vector<KillWorker> kills;
  int decoder_kills = 0;
};

}  // namespace facet
