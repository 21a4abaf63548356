// Every message survives encode and decode with every field.
#include <gtest/gtest.h>

#include <limits>

#include "common/protocol/limits.h"
#include "tests/unit/protocol/samples.h"

namespace facet {
namespace {

template <class T, class Variant>
T get(const Result<Variant>& decoded) {
  EXPECT_TRUE(decoded) << decoded.error().message;
  EXPECT_TRUE(std::holds_alternative<T>(*decoded)) << decoded->index();
  return std::get<T>(*decoded);
}

void expect_same_body(const GenerateRequest& a, const GenerateRequest& b) {
  EXPECT_EQ(encode_request_body(a), encode_request_body(b));
}

TEST(RoundTrip, Generate) {
  const GenerateRequest sent = samples::generate();
  const auto got = get<GenerateRequest>(decode_client_message(encode_message(sent)));
  EXPECT_EQ(got.id, sent.id);
  EXPECT_EQ(got.next_index, 5u);
  EXPECT_EQ(got.num_images, 2u);
  ASSERT_EQ(got.messages.size(), 2u);
  EXPECT_EQ(got.messages[0].role, "system");
  ASSERT_EQ(got.messages[1].content.size(), 3u);
  EXPECT_EQ(got.messages[1].content[1].text, "Grün oder 赤?");
  EXPECT_EQ(got.messages[1].content[2].kind, ContentPart::Kind::kImage);
  EXPECT_EQ(got.messages[1].content[2].image, 1u);
  EXPECT_EQ(got.sampling.max_tokens, 17u);
  EXPECT_EQ(got.sampling.min_tokens, 2u);
  EXPECT_EQ(got.sampling.temperature, 0.7);
  EXPECT_EQ(got.sampling.top_p, 0.9);
  EXPECT_EQ(got.sampling.top_k, 40u);
  EXPECT_EQ(got.sampling.min_p, 0.05);
  EXPECT_EQ(got.sampling.repetition_penalty, 1.1);
  EXPECT_EQ(got.sampling.presence_penalty, -0.5);
  EXPECT_EQ(got.sampling.frequency_penalty, 0.25);
  EXPECT_EQ(got.sampling.seed, 0xffffffffffffffffu);
  EXPECT_EQ(got.sampling.stop, (std::vector<std::string>{"\n\n", "Ende"}));
  EXPECT_TRUE(got.sampling.ignore_eos);
  EXPECT_EQ(got.sampling.logprobs, 3u);
  EXPECT_EQ(got.priority, Priority::kBatch);
  EXPECT_EQ(got.deadline_ms, 90000u);
}

TEST(RoundTrip, OtherClientMessages) {
  const PutChunk put{samples::id(), 3, 1ull << 30, (1ull << 30) - 4};
  const auto got = get<PutChunk>(decode_client_message(encode_message(put), "abcd"));
  EXPECT_EQ(got.id, put.id);
  EXPECT_EQ(got.image, 3u);
  EXPECT_EQ(got.total_bytes, 1ull << 30);
  EXPECT_EQ(got.offset, (1ull << 30) - 4);
  EXPECT_EQ(
      get<CancelRequest>(decode_client_message(encode_message(CancelRequest{samples::id()}))).id,
      samples::id());
  get<StatusQuery>(decode_client_message(encode_message(StatusQuery{})));
}

TEST(RoundTrip, BrokerMessages) {
  const auto accepted = get<Accepted>(
      decode_broker_message(encode_message(Accepted{samples::id(), 7, 11, 1ull << 60})));
  EXPECT_EQ(accepted.queue_position, 7u);
  EXPECT_EQ(accepted.num_tokens, 11u);
  EXPECT_EQ(accepted.epoch, 1ull << 60);

  const auto refused = get<Refused>(
      decode_broker_message(encode_message(Refused{samples::id(), Code::kExhausted, "full", 250})));
  EXPECT_EQ(refused.id, samples::id());
  EXPECT_EQ(refused.code, Code::kExhausted);
  EXPECT_EQ(refused.message, "full");
  EXPECT_EQ(refused.retry_after_ms, 250u);
  const auto no_id = get<Refused>(
      decode_broker_message(encode_message(Refused{{}, Code::kInvalidArgument, "what?", 0})));
  EXPECT_TRUE(no_id.id.is_zero());

  const auto tokens = get<Tokens>(
      decode_broker_message(encode_message(Tokens{samples::id(), 4, {1, -2, 151643}, "né"})));
  EXPECT_EQ(tokens.index, 4u);
  EXPECT_EQ(tokens.token_ids, (std::vector<std::int32_t>{1, -2, 151643}));
  EXPECT_EQ(tokens.text, "né");
  EXPECT_TRUE(tokens.logprobs.empty());
  const float least = -std::numeric_limits<float>::infinity();
  const Tokens sent{samples::id(), 4, {1, 2}, "", {{1, -1e-7F}, {-1, least}, {2, -3}, {2, -3}}};
  EXPECT_EQ(get<Tokens>(decode_broker_message(encode_message(sent))).logprobs, sent.logprobs);

  const auto done = get<Done>(decode_broker_message(encode_message(samples::done())));
  EXPECT_EQ(done.reason, FinishReason::kError);
  EXPECT_EQ(done.text, "…");
  EXPECT_EQ(done.usage.prompt_tokens, 100u);
  EXPECT_EQ(done.usage.image_tokens, 64u);
  EXPECT_EQ(done.usage.completion_tokens, 12u);
  EXPECT_EQ(done.usage.cached_tokens, 96u);
  EXPECT_EQ(done.attempts, 2u);
  EXPECT_EQ(done.timings.dispatched_ms, 1.5);
  EXPECT_EQ(done.timings.first_token_ms, 20.25);
  EXPECT_EQ(done.timings.total_ms, 300.0);
  EXPECT_EQ(done.code, Code::kQuarantined);
  EXPECT_EQ(done.error, "this request ended workers");

  EXPECT_EQ(get<Keepalive>(decode_broker_message(encode_message(Keepalive{9}))).epoch, 9u);
  EXPECT_EQ(get<StatusReply>(decode_broker_message(encode_message(StatusReply{"{}"}))).json, "{}");
}

TEST(RoundTrip, WorkerCommands) {
  const Dispatch sent = samples::dispatch();
  const auto got = get<Dispatch>(decode_worker_command(encode_message(sent)));
  EXPECT_EQ(got.attempt, 3u);
  EXPECT_EQ(got.request.id, sent.request.id);
  expect_same_body(got.request, sent.request);
  EXPECT_EQ(got.committed, sent.committed);
  ASSERT_EQ(got.images.size(), 2u);
  EXPECT_EQ(got.images[0].generation, 1ull << 50);
  EXPECT_EQ(got.images[1].offset, 1ull << 33);
  EXPECT_EQ(got.images[0].width, 640u);
  EXPECT_EQ(got.images[0].height, 480u);
  EXPECT_EQ(got.images[0].slot, 1u);
  EXPECT_EQ(got.images[0].content_hash_high, 0x0102030405060708u);
  EXPECT_EQ(got.images[1].content_hash_low, 0xfedcba9876543210u);
  EXPECT_EQ(
      get<CancelSequence>(decode_worker_command(encode_message(CancelSequence{samples::id(), 8})))
          .attempt,
      8u);
  get<Drain>(decode_worker_command(encode_message(Drain{})));
}

TEST(RoundTrip, WorkerMessages) {
  const auto hello = get<Hello>(decode_worker_message(encode_message(samples::hello())));
  EXPECT_EQ(hello.worker, 2u);
  EXPECT_EQ(hello.incarnation, 1ull << 60);
  EXPECT_EQ(hello.pid, 4711u);
  EXPECT_EQ(hello.credits, 32u);
  EXPECT_TRUE(hello.is_settled);
  EXPECT_EQ(hello.model.name, "demo-model");
  EXPECT_EQ(hello.model.family, "qwen2_5_vl");
  EXPECT_EQ(hello.model.max_model_len, 2048u);
  EXPECT_EQ(hello.model.max_images, 16u);
  EXPECT_EQ(hello.model.max_token_text_bytes, 96u);
  EXPECT_EQ(hello.model.image_pixels_per_token, 784u);
  EXPECT_EQ(hello.model.image_tokens_min, 4u);
  EXPECT_EQ(hello.model.image_tokens_max, 1024u);
  ASSERT_EQ(hello.held.size(), 2u);
  EXPECT_EQ(hello.held[0].num_tokens, 9u);

  const auto step = get<Step>(decode_worker_message(encode_message(samples::step())));
  EXPECT_EQ(step.incarnation, 77u);
  EXPECT_EQ(step.step, 1234567u);
  EXPECT_EQ(step.num_running, 3u);
  EXPECT_EQ(step.kv_blocks_free, 100u);
  EXPECT_EQ(step.kv_blocks_total, 128u);
  EXPECT_EQ(step.kv_blocks_cached, 50u);
  EXPECT_EQ(step.idle_gap_ns, 4321u);
  EXPECT_TRUE(step.is_settled);
  ASSERT_EQ(step.updates.size(), 3u);
  EXPECT_EQ(step.updates[0].token_texts, (std::vector<std::string>{"", "é"}));
  EXPECT_EQ(step.updates[0].logprobs, samples::step().updates[0].logprobs);
  EXPECT_TRUE(step.updates[1].logprobs.empty());
  EXPECT_TRUE(step.updates[0].images_released);
  EXPECT_FALSE(step.updates[0].ended);
  EXPECT_TRUE(step.updates[1].ended);
  EXPECT_EQ(step.updates[1].end.code, Code::kTooLarge);
  EXPECT_EQ(step.updates[1].end.message, "needs 9, has 8");
  EXPECT_EQ(step.updates[2].end.kind, SequenceEnd::Kind::kStop);
  EXPECT_EQ(step.updates[2].end.text, "tail");
  EXPECT_EQ(step.updates[2].end.prompt_tokens, 10u);
  EXPECT_EQ(step.updates[2].end.cached_tokens, 3u);
}

TEST(RoundTrip, LogprobsOfPartOfATokenAreRefused) {
  Tokens tokens{samples::id(), 0, {1, 2}, "", {{1, 0}, {2, 0}, {2, 0}}};
  const auto odd = decode_broker_message(encode_message(tokens));
  ASSERT_FALSE(odd);
  EXPECT_NE(odd.error().message.find("logprobs"), std::string::npos) << odd.error().message;
  tokens.logprobs.pop_back();
  std::string bytes = encode_message(tokens);
  const auto at = bytes.find("logprobs") + std::string_view("logprobs").size();
  ASSERT_EQ(bytes[at], '\xc4');  // a bin, its length in one byte
  --bytes[at + 1];
  bytes.pop_back();
  EXPECT_FALSE(decode_broker_message(bytes));
}

TEST(RequestBody, LogprobsOffAndZeroAreDifferent) {
  GenerateRequest request = samples::generate();
  request.sampling.logprobs.reset();
  const auto off = decode_request_body(encode_request_body(request));
  EXPECT_FALSE(off->sampling.logprobs);
  EXPECT_EQ(off->sampling.logprobs_per_token(), 0u);
  request.sampling.logprobs = 0;
  const auto zero = decode_request_body(encode_request_body(request));
  EXPECT_EQ(zero->sampling.logprobs, 0u);
  EXPECT_EQ(zero->sampling.logprobs_per_token(), 1u);
}

TEST(RequestBody, IsCanonicalAndLeavesOutIdAndNext) {
  GenerateRequest a = samples::generate();
  GenerateRequest b = a;
  b.id = samples::id(99);
  b.next_index = 1000;
  expect_same_body(a, b);
  b.sampling.seed = 1;
  EXPECT_NE(encode_request_body(a), encode_request_body(b));
  const auto back = decode_request_body(encode_request_body(a));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_TRUE(back->id.is_zero());
  EXPECT_EQ(back->next_index, 0u);
  expect_same_body(a, *back);
}

TEST(RequestBody, SpellingsOfTheSameRequestAreEqual) {
  const auto as_string =
      decode_client_message(samples::raw_generate(0, samples::hello_text, samples::no_params));
  const auto as_parts = decode_client_message(samples::raw_generate(
      0,
      [](samples::Packer& pack) {
        pack.pack_array(1).pack_map(2).pack("text").pack("hello").pack("type").pack("text");
      },
      [](samples::Packer& pack) { pack.pack_map(1).pack("temperature").pack(-0.0); }));
  expect_same_body(get<GenerateRequest>(as_string), get<GenerateRequest>(as_parts));
}

TEST(Encoding, ErrorTextsAreCutBetweenCharacters) {
  Refused refused{samples::id(), Code::kInternal, "", 0};
  for (int i = 0; i < 2000; ++i) refused.message += "é";
  const auto got = get<Refused>(decode_broker_message(encode_message(refused)));
  EXPECT_EQ(got.message.size(), kMaxErrorBytes);
  refused.message = "bad \xff byte";
  EXPECT_EQ(get<Refused>(decode_broker_message(encode_message(refused))).message, "bad ? byte");
}

TEST(Names, OfReasonsAndCodes) {
  EXPECT_EQ(finish_reason_name(FinishReason::kCancelled), "cancelled");
  EXPECT_EQ(code_from_name("exhausted"), Code::kExhausted);
  EXPECT_EQ(code_from_name("unsupported"), Code::kUnsupported);
  EXPECT_EQ(code_from_name("unknown"), std::nullopt);
}

}  // namespace
}  // namespace facet
