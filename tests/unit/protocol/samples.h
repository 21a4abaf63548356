// One filled message of every kind, and msgpack written by hand.
#pragma once

#include <msgpack.hpp>
#include <string>

#include "common/protocol/codec.h"
#include "tests/unit/protocol/dispatch_order.h"

namespace facet::samples {

inline RequestId id(std::uint8_t first = 1) {
  RequestId made;
  for (std::size_t i = 0; i < made.bytes.size(); ++i) {
    made.bytes[i] = static_cast<std::uint8_t>(first + i);
  }
  return made;
}

inline ContentPart text_part(std::string text) {
  return ContentPart{ContentPart::Kind::kText, std::move(text), 0};
}

inline ContentPart image_part(std::uint32_t image) {
  return ContentPart{ContentPart::Kind::kImage, "", image};
}

inline GenerateRequest generate() {
  GenerateRequest request;
  request.id = id();
  request.messages = {Message{"system", {text_part("Be short.")}},
                      Message{"user", {image_part(0), text_part("Grün oder 赤?"), image_part(1)}}};
  request.num_images = 2;
  request.sampling.max_tokens = 17;
  request.sampling.min_tokens = 2;
  request.sampling.temperature = 0.7;
  request.sampling.top_p = 0.9;
  request.sampling.top_k = 40;
  request.sampling.min_p = 0.05;
  request.sampling.repetition_penalty = 1.1;
  request.sampling.presence_penalty = -0.5;
  request.sampling.frequency_penalty = 0.25;
  request.sampling.seed = 0xffffffffffffffffu;
  request.sampling.stop = {"\n\n", "Ende"};
  request.sampling.ignore_eos = true;
  request.sampling.logprobs = 3;
  request.priority = Priority::kBatch;
  request.deadline_ms = 90000;
  request.next_index = 5;
  return request;
}

inline Dispatch dispatch() {
  Dispatch made;
  made.attempt = 3;
  made.request = generate();
  made.request.next_index = 0;
  made.images = {ImageDescriptor{1, 1ull << 50, 65536, 640, 480, 0x0102030405060708u, 42},
                 ImageDescriptor{2, 7, 1ull << 33, 1, 1, 1, 0xfedcba9876543210u}};
  made.committed = {1, 2, 151643, 0};
  return made;
}

inline Hello hello() {
  Hello made;
  made.worker = 2;
  made.incarnation = 1ull << 60;
  made.pid = 4711;
  made.credits = 32;
  made.is_settled = true;
  made.model = ModelFacts{"demo-model", "qwen2_5_vl", 2048, 16, 96, 784, 4, 1024};
  made.held = {HeldSequence{id(), 1, 9}, HeldSequence{id(9), 2, 0}};
  return made;
}

inline Step step() {
  SequenceUpdate running;
  running.id = id();
  running.attempt = 1;
  running.index = 4;
  running.token_ids = {5, 6};
  running.token_texts = {"", "é"};
  running.logprobs = {{5, -0.25F}, {7, -1.0F}, {6, -0.5F}, {6, -0.5F}};
  running.images_released = true;
  SequenceUpdate failed;
  failed.id = id(9);
  failed.attempt = 2;
  failed.ended = true;
  failed.end =
      SequenceEnd{SequenceEnd::Kind::kError, "", Code::kTooLarge, "needs 9, has 8", 10, 4, 0};
  SequenceUpdate stopped = failed;
  stopped.end = SequenceEnd{SequenceEnd::Kind::kStop, "tail", Code::kInternal, "", 10, 4, 3};
  Step made;
  made.incarnation = 77;
  made.step = 1234567;
  made.num_running = 3;
  made.kv_blocks_free = 100;
  made.kv_blocks_total = 128;
  made.kv_blocks_cached = 50;
  made.is_settled = true;
  made.idle_gap_ns = 4321;
  made.updates = {running, failed, stopped};
  return made;
}

inline Done done() {
  Done made;
  made.id = id();
  made.reason = FinishReason::kError;
  made.text = "…";
  made.usage = Usage{100, 64, 12, 96};
  made.attempts = 2;
  made.timings = Timings{1.5, 20.25, 300.0};
  made.code = Code::kQuarantined;
  made.error = "this request ended workers";
  return made;
}

// A generate map with `params` and `content` given by the test, as another client might write it.
using Packer = msgpack::packer<msgpack::sbuffer>;

template <class WriteContent, class WriteParams>
std::string raw_generate(int images, WriteContent content, WriteParams params) {
  msgpack::sbuffer buffer;
  Packer pack(buffer);
  pack.pack_map(6);
  pack.pack("v").pack(1).pack("type").pack("generate");
  pack.pack("id").pack_bin(16).pack_bin_body("0123456789abcdef", 16);
  pack.pack("images").pack(images);
  pack.pack("messages").pack_array(1).pack_map(2).pack("role").pack("user").pack("content");
  content(pack);
  pack.pack("params");
  params(pack);
  return std::string(buffer.data(), buffer.size());
}

inline void no_params(Packer& pack) {
  pack.pack_map(0);
}
inline void hello_text(Packer& pack) {
  pack.pack("hello");
}

}  // namespace facet::samples
