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

std::int32_t fake_next(std::span<const std::int64_t> context, std::int32_t eos) {
  std::uint64_t hash = 1469598103934665603u;
  for (const std::int64_t value : context)
    hash = (hash ^ static_cast<std::uint64_t>(value)) * 1099511628211u;
  hash ^= hash >> 29;
  return hash % 41 == 0 ? eos : 'a' + static_cast<std::int32_t>(hash % 26);
}

FakeRunner::FakeRunner(const RunnerShape& shape, std::int32_t eos)
    : shape_(shape),
      eos_(eos),
      kv_(static_cast<std::size_t>(shape.num_blocks * shape.block_tokens)),
      rows_(static_cast<std::size_t>(shape.encoder_rows)) {}

Status FakeRunner::encode(const ImagePatches& image, std::int32_t pool_row,
                          const ProgressTick& tick) {
  tick(WorkerPhase::kEncode);
  if (fail_encode) return Error(Code::kInternal, "the encoder failed");
  for (std::size_t i = 0; i < image.values.size(); ++i)
    rows_.at(static_cast<std::size_t>(pool_row) + i) =
        image_value(static_cast<std::uint8_t>(image.values[i]), static_cast<std::int64_t>(i));
  return {};
}

Result<LogitsView> FakeRunner::forward(std::span<const SequenceChunk> chunks,
                                       const ProgressTick& tick) {
  tick(WorkerPhase::kDecode);
  std::int32_t tokens = 0;
  std::int32_t rows = 0;
  logits_.clear();
  for (const SequenceChunk& chunk : chunks) {
    const auto slot = [&](std::int32_t at) -> std::int64_t& {
      const auto block = static_cast<std::size_t>(at / shape_.block_tokens);
      EXPECT_LT(block, chunk.blocks.size());
      return kv_.at(static_cast<std::size_t>(chunk.blocks[block] * shape_.block_tokens +
                                             at % shape_.block_tokens));
    };
    std::vector<std::int64_t> values(chunk.token_ids.begin(), chunk.token_ids.end());
    for (const ImageRows& image : chunk.image_rows)
      for (std::int32_t i = 0; i < image.count; ++i) {
        EXPECT_EQ(values.at(static_cast<std::size_t>(image.at + i)), kFakeImageToken);
        values.at(static_cast<std::size_t>(image.at + i)) =
            rows_.at(static_cast<std::size_t>(image.pool_row + i));
      }
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_NE(values[i], kFakeImageToken) << "an image token without its row";
      slot(chunk.context_tokens + static_cast<std::int32_t>(i)) =
          entry(values[i], chunk.positions[i]);
    }
    tokens += static_cast<std::int32_t>(values.size());
    if (!chunk.wants_logits) continue;
    const auto end = chunk.context_tokens + static_cast<std::int32_t>(values.size());
    std::vector<std::int64_t> context;
    for (std::int32_t at = 0; at < end; ++at) context.push_back(slot(at));
    const bool is_nan = nan_for_chunks_of == static_cast<std::int32_t>(values.size());
    logits_.resize(logits_.size() + kFakeVocab,
                   is_nan ? std::numeric_limits<float>::quiet_NaN() : 0.0F);
    if (!is_nan)
      logits_[static_cast<std::size_t>(rows * kFakeVocab + fake_next(context, eos_))] = 9.0F;
    ++rows;
  }
  EXPECT_LE(tokens, shape_.max_step_tokens);
  EXPECT_LE(static_cast<std::int32_t>(chunks.size()), shape_.max_step_chunks);
  most_tokens = std::max(most_tokens, tokens);
  most_chunks = std::max(most_chunks, static_cast<std::int32_t>(chunks.size()));
  return LogitsView{logits_.data(), rows, kFakeVocab};
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

Result<ImagePatches> FakeInput::preprocess(const ImageView& image, const ImageSpan& span,
                                           std::vector<float>& storage) const {
  storage.assign(static_cast<std::size_t>(span.count), static_cast<float>(image.pixels[0]));
  return ImagePatches{storage, 1, span.count};
}

std::vector<std::int32_t> expected_answer(const SequenceSpec& spec, std::int32_t eos) {
  const FakeInput input;
  const Prompt prompt = *input.build(spec.request, spec.images);
  std::vector<std::int64_t> context;
  for (std::size_t i = 0; i < prompt.token_ids.size(); ++i)
    context.push_back(entry(prompt.token_ids[i], prompt.positions[i]));
  for (const ImageSpan& image : prompt.images)
    for (std::int32_t i = 0; i < image.count; ++i) {
      const auto at = static_cast<std::size_t>(image.first + i);
      const std::uint8_t pixel = spec.images[static_cast<std::size_t>(image.image)].pixels[0];
      context[at] = entry(image_value(pixel, i), prompt.positions[at]);
    }
  std::vector<std::int32_t> answer;
  while (answer.size() < spec.request.sampling.max_tokens) {
    answer.push_back(fake_next(context, eos));
    if (answer.back() == eos) break;
    const std::int32_t position = static_cast<std::int32_t>(context.size()) + prompt.position_delta;
    context.push_back(entry(answer.back(), {position, position, position}));
  }
  return answer;
}

FakeEngine make_fake_engine(const FakeOptions& options) {
  FakeEngine fake;
  ModelEngineParts parts;
  parts.facts.max_model_len = options.max_model_len;
  parts.max_lanes = options.lanes;
  parts.input = std::make_unique<FakeInput>();
  fake.eos = parts.input->tokenizer().find("<|im_end|>");
  parts.sampling = {1.0, {fake.eos}, kFakeVocab};
  auto runner = std::make_unique<FakeRunner>(
      RunnerShape{options.blocks, options.block_tokens, options.encoder_rows, options.step_tokens,
                  options.lanes, kFakeVocab},
      fake.eos);
  fake.runner = runner.get();
  parts.runner = std::move(runner);
  parts.tick = [](WorkerPhase) {};
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
  spec.images.push_back({pixel, tokens, 1, 0, 0, [] { return true; }});
  spec.request.messages[0].content.push_back({ContentPart::Kind::kImage, "", index});
  spec.request.messages[0].content.push_back({ContentPart::Kind::kText, "?", 0});
}

}  // namespace facet
