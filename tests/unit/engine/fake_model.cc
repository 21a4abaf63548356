#include "tests/unit/engine/fake_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

namespace facet {
namespace {

std::int64_t entry(std::int64_t value, const Position& position) {
  return value * 1'000'000 + position[0] * 10'000 + position[1] * 100 + position[2];
}

std::int64_t image_value(std::uint8_t pixel, std::int64_t row) {
  return 1000 + pixel * 300 + row;
}

}  // namespace

std::vector<float> fake_logits(std::span<const std::int64_t> context, std::int32_t eos) {
  std::uint64_t hash = 1469598103934665603u;
  for (const std::int64_t value : context)
    hash = (hash ^ static_cast<std::uint64_t>(value)) * 1099511628211u;
  hash ^= hash >> 29;
  std::vector<float> logits(kFakeVocab, -20.0F);
  std::uint64_t noise = hash | 1;
  for (std::size_t token = 'a'; token <= 'z'; ++token) {
    noise = noise * 6364136223846793005u + 1442695040888963407u;
    logits[token] = static_cast<float>(noise >> 40) * 6.0F / static_cast<float>(1 << 24);
  }
  logits[static_cast<std::size_t>(eos)] = hash % 41 == 0 ? 9.0F : 0.0F;
  return logits;
}

FakeRunner::FakeRunner(const RunnerShape& shape, std::int32_t eos, int max_in_flight)
    : shape_(shape),
      eos_(eos),
      max_in_flight_(max_in_flight),
      kv_(static_cast<std::size_t>(shape.num_blocks * shape.block_tokens)),
      rows_(static_cast<std::size_t>(shape.encoder_rows)),
      lanes_(static_cast<std::size_t>(shape.max_step_chunks)) {}

Result<std::vector<Status>> FakeRunner::encode(std::span<const EncodeJob> jobs,
                                               const ProgressTick& tick) {
  std::vector<Status> done;
  for (const EncodeJob& job : jobs) {
    tick(WorkerPhase::kEncode);
    ++num_encoded;
    const std::uint8_t pixel = job.pixels.data[0];
    if (job.is_current && !job.is_current()) {
      done.push_back(Error(Code::kCorrupt, "not current"));
    } else if (fail_encode) {
      done.push_back(Error(Code::kInternal, "the encoder failed"));
    } else {
      for (std::int64_t i = 0; i < job.grid_width; ++i)
        rows_.at(static_cast<std::size_t>(job.pool_row + i)) = image_value(pixel, i);
      done.emplace_back();
    }
  }
  return done;
}

std::int64_t& FakeRunner::slot(const SequenceChunk& chunk, std::int32_t at) {
  const auto block = static_cast<std::size_t>(at / shape_.block_tokens);
  EXPECT_LT(block, chunk.blocks.size());
  return kv_.at(static_cast<std::size_t>(chunk.blocks[block] * shape_.block_tokens +
                                         at % shape_.block_tokens));
}

void FakeRunner::write(const SequenceChunk& chunk, Lane& lane) {
  std::vector<std::int64_t> values(chunk.token_ids.begin(), chunk.token_ids.end());
  EXPECT_EQ(chunk.positions.size(), values.size());
  if (values.size() == 1 && values[0] == kChosenBefore) {
    EXPECT_GE(lane.last, 0) << "the step before chose nothing for this lane";
    EXPECT_FALSE(in_flight_.empty()) << "the caller knows the token";
    values[0] = lane.last;
    ++num_chosen_before;
  }
  for (const ImageRows& image : chunk.image_rows)
    for (std::int32_t i = 0; i < image.count; ++i) {
      EXPECT_EQ(values.at(static_cast<std::size_t>(image.at + i)), kFakeImageToken);
      values.at(static_cast<std::size_t>(image.at + i)) =
          rows_.at(static_cast<std::size_t>(image.pool_row + i));
    }
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_NE(values[i], kFakeImageToken) << "an image token without its row";
    EXPECT_GE(values[i], 0);
    slot(chunk, chunk.context_tokens + static_cast<std::int32_t>(i)) =
        entry(values[i], chunk.positions[i]);
  }
  lane.num_tokens = chunk.context_tokens + static_cast<std::int32_t>(values.size());
}

ChosenToken FakeRunner::choose(const SequenceChunk& chunk, Lane& lane) {
  std::vector<std::int64_t> context;
  for (std::int32_t at = 0; at < lane.num_tokens; ++at) context.push_back(slot(chunk, at));
  const bool is_nan = nan_for_chunks_of == static_cast<std::int32_t>(chunk.token_ids.size());
  logits_ = fake_logits(context, eos_);
  if (is_nan) logits_['q'] = std::numeric_limits<float>::quiet_NaN();
  if (!lane.sampler || max_in_flight_ == 1) lane.sampler.emplace(*chunk.sampler);
  SequenceChunk asked = chunk;
  asked.sampler = &*lane.sampler;
  ChosenToken chosen = choose_on_host(logits_, asked, scratch_);
  lane.last = chosen.not_finite ? 0 : chosen.token;  // a device would go on with something
  lane.sampler->observe(lane.last);
  return chosen;
}

Status FakeRunner::launch(std::span<const SequenceChunk> chunks, const ProgressTick& tick) {
  tick(WorkerPhase::kDecode);
  if (is_broken() && !fails_when_collected) return Error(Code::kInternal, kBroken);
  EXPECT_LT(static_cast<int>(in_flight_.size()), max_in_flight_);
  EXPECT_FALSE(chunks.empty());
  std::int32_t tokens = 0;
  std::vector<ChosenToken> chosen;
  for (Lane& lane : lanes_) lane.is_taken = false;
  for (const SequenceChunk& chunk : chunks) {
    Lane& lane = lanes_.at(static_cast<std::size_t>(chunk.lane));
    if (chunk.starts_lane) {
      lane = {};
      num_adopted += chunk.context_tokens;
    }
    EXPECT_FALSE(lane.is_taken) << "two chunks of one lane";
    EXPECT_TRUE(chunk.starts_lane || chunk.context_tokens == lane.num_tokens);
    lane.is_taken = true;
    write(chunk, lane);
    lane.last = -1;
    if (chunk.sampler != nullptr) chosen.push_back(choose(chunk, lane));
    tokens += static_cast<std::int32_t>(chunk.token_ids.size());
  }
  for (Lane& lane : lanes_)
    if (!lane.is_taken) lane.last = -1;
  EXPECT_LE(tokens, shape_.max_step_tokens);
  EXPECT_LE(static_cast<std::int32_t>(chunks.size()), shape_.max_step_chunks);
  most_tokens = std::max(most_tokens, tokens);
  most_chunks = std::max(most_chunks, static_cast<std::int32_t>(chunks.size()));
  in_flight_.push_back(std::move(chosen));
  most_in_flight = std::max(most_in_flight, static_cast<int>(in_flight_.size()));
  ++num_steps;
  return {};
}

Result<std::span<const ChosenToken>> FakeRunner::collect() {
  if (in_flight_.empty()) return Error(Code::kInternal, "no step is in flight");
  if (is_broken()) return Error(Code::kInternal, kBroken);
  collected_ = std::move(in_flight_.front());
  in_flight_.pop_front();
  return std::span<const ChosenToken>(collected_);
}

FakeInput::FakeInput()
    : tokenizer_(*Tokenizer::load(FACET_SOURCE_DIR "/configs/demo-model/tokenizer.json")) {}

Result<Prompt> FakeInput::build(const GenerateRequest& request,
                                std::span<const ImageView> images) const {
  Prompt prompt;
  std::int32_t next = 0;
  const auto push = [&](std::int32_t token, const Position& position) {
    prompt.token_ids.push_back(token);
    prompt.positions.push_back(position);
  };
  for (const Message& message : request.messages) {
    for (const ContentPart& part : message.content) {
      for (const char byte : part.text) {
        push(static_cast<std::uint8_t>(byte), {next, next, next});
        ++next;
      }
      if (part.kind != ContentPart::Kind::kImage) continue;
      if (part.image >= images.size()) return Error(Code::kInvalidArgument, "no such image");
      const auto count = static_cast<std::int32_t>(images[part.image].width);
      prompt.images.push_back({static_cast<std::int32_t>(part.image),
                               static_cast<std::int32_t>(prompt.token_ids.size()), count, 1,
                               count});
      for (std::int32_t i = 0; i < count; ++i) push(kFakeImageToken, {next, next, next + i});
      next += 1;
    }
  }
  prompt.position_delta = next - static_cast<std::int32_t>(prompt.token_ids.size());
  return prompt;
}

ExpectedAnswer expected(const SequenceSpec& spec, std::int32_t eos) {
  static const FakeInput kInput;
  const Prompt prompt = *kInput.build(spec.request, spec.images);
  std::vector<std::int64_t> context;
  for (std::size_t i = 0; i < prompt.token_ids.size(); ++i)
    context.push_back(entry(prompt.token_ids[i], prompt.positions[i]));
  for (const ImageSpan& image : prompt.images)
    for (std::int32_t i = 0; i < image.count; ++i) {
      const auto at = static_cast<std::size_t>(image.first + i);
      const std::uint8_t pixel = spec.images[static_cast<std::size_t>(image.image)].pixels[0];
      context[at] = entry(image_value(pixel, i), prompt.positions[at]);
    }
  const SamplingParams& params = spec.request.sampling;
  const SamplingDefaults defaults{1.0, {eos}, kFakeVocab};
  Sampler sampler(params, defaults, prompt.token_ids);
  Answer answer(params, defaults.eos_token_ids, kInput.tokenizer());
  std::vector<float> scratch;
  ExpectedAnswer out;
  while (!answer.ended()) {
    SequenceChunk chunk;
    chunk.sampler = &sampler;
    chunk.answer_index = answer.num_tokens();
    const ChosenToken chosen = choose_on_host(fake_logits(context, eos), chunk, scratch);
    const std::int32_t position = static_cast<std::int32_t>(context.size()) + prompt.position_delta;
    context.push_back(entry(chosen.token, {position, position, position}));
    sampler.observe(chosen.token);
    out.ids.push_back(chosen.token);
    out.text += answer.append(chosen.token);
    if (params.logprobs) out.logprobs.push_back({chosen.token, chosen.logprob});
    out.logprobs.insert(out.logprobs.end(), chosen.top.begin(), chosen.top.end());
  }
  out.text += answer.finish();
  out.end = *answer.ended();
  return out;
}

FakeEngine make_fake_engine(const FakeOptions& options) {
  FakeEngine fake;
  ModelEngineParts parts;
  parts.facts.max_model_len = options.max_model_len;
  parts.max_lanes = options.lanes;
  parts.not_finite_hint = ", said the fake";
  parts.prefix_cache = options.prefix_cache;
  parts.input = std::make_unique<FakeInput>();
  fake.eos = parts.input->tokenizer().find("<|im_end|>");
  parts.sampling = {1.0, {fake.eos}, kFakeVocab};
  auto runner = std::make_unique<FakeRunner>(
      RunnerShape{options.blocks, options.block_tokens, options.encoder_rows, options.step_tokens,
                  options.lanes, kFakeVocab},
      fake.eos, options.max_in_flight);
  fake.runner = runner.get();
  parts.runner = std::move(runner);
  parts.tick = [](WorkerPhase) {};
  parts.clock = [now = fake.now] { return *now; };
  fake.engine = std::make_unique<ModelEngine>(std::move(parts));
  return fake;
}

SequenceSpec text_spec(const std::string& text, std::uint32_t max_tokens) {
  SequenceSpec spec;
  spec.id = RequestId::random();
  spec.request.messages = {{"user", {{ContentPart::Kind::kText, text, 0}}}};
  spec.request.sampling.max_tokens = max_tokens;
  return spec;
}

void add_image(SequenceSpec& spec, const std::uint8_t* pixel, std::uint32_t tokens) {
  const auto index = static_cast<std::uint32_t>(spec.images.size());
  spec.images.push_back({pixel, tokens, 1, 1, pixel[0] + std::uint64_t{1}, [] { return true; }});
  spec.request.messages[0].content.push_back({ContentPart::Kind::kImage, "", index});
  spec.request.messages[0].content.push_back({ContentPart::Kind::kText, "?", 0});
}

}  // namespace facet
