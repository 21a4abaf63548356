// What load may never change is the answer: up to 256 greedy tokens in fp32 equal transformers
// 5.17.0's, whatever the chunks, blocks, lanes, neighbours, preemptions and caches. Prompts with a
// step whose two best logits of the reference are less than 1e-3 apart run as neighbours; their
// tokens are not compared here but in logits_test.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/parity/drive_engine.h"
#include "tests/parity/fixture.h"
#include "tests/parity/golden_cases.h"
#include "worker/checkpoint/qwen_config.h"
#include "worker/engine/qwen2_5_vl/input_processor.h"
#include "worker/text/tokenizer.h"

namespace facet {
namespace {

const ParityGoldens& goldens(const std::string& shape = fixture_shapes().front()) {
  static std::map<std::string, ParityGoldens> read;
  const auto found = read.find(shape);
  if (found != read.end()) return found->second;
  return read.emplace(shape, read_parity_goldens(parity_data() + "/parity", shape)).first->second;
}

ImageShelf& shelf() {
  static ImageShelf kShelf(parity_data());
  return kShelf;
}

// Of every `stride`-th case the first `num_tokens` tokens; of few cases, all.
struct Part {
  std::size_t stride = 1;
  std::size_t num_tokens = 256;
};

void expect_tokens(const ParityGoldens::Case& golden, const DrivenAnswer& answer,
                   std::size_t number) {
  EXPECT_EQ(answer.end.prompt_tokens, golden.prompt_tokens) << "case " << number;
  EXPECT_EQ(answer.end.kind, SequenceEnd::Kind::kLength) << "case " << number;
  if (golden.is_tie) return;
  const auto differs =
      std::mismatch(answer.token_ids.begin(), answer.token_ids.end(), golden.output_ids.begin());
  EXPECT_EQ(differs.first, answer.token_ids.end())
      << "case " << number << " differs at token " << differs.first - answer.token_ids.begin()
      << " of " << answer.token_ids.size() << ", margin " << golden.min_margin;
}

void expect_whole(Engine& engine) {
  const Status conserved = engine.check_conservation();
  EXPECT_TRUE(conserved) << conserved.error().message;
}

void expect_all(Engine& engine, const ParityGoldens& all, Part part) {
  if (is_full_run()) part = {};
  if (all.cases.size() < 40) part.stride = 1;
  std::vector<SequenceSpec> specs;
  std::vector<std::size_t> numbers;
  for (std::size_t i = 0; i < all.cases.size(); i += part.stride) {
    specs.push_back(spec_of(all.cases[i], part.num_tokens, shelf()));
    numbers.push_back(i);
  }
  const auto answers = drive(engine, std::move(specs));
  for (std::size_t i = 0; i < answers.size(); ++i) {
    ASSERT_EQ(answers[i].token_ids.size(), part.num_tokens) << answers[i].end.message;
    expect_tokens(all.cases[numbers[i]], answers[i], numbers[i]);
  }
  expect_whole(engine);
}

TEST(Load, GoldensAreWhole) {
  std::size_t compared = 0, with_images[4] = {};
  for (const ParityGoldens::Case& golden : goldens().cases) {
    ASSERT_EQ(golden.output_ids.size(), 256u);
    if (golden.is_tie) continue;
    EXPECT_GE(golden.min_margin, 1e-3);
    ++compared;
    ++with_images[golden.images.size()];
  }
  const std::size_t all = goldens().cases.size();
  EXPECT_GE(compared, all * 3 / 4);
  for (const std::size_t count : with_images) EXPECT_GE(count, all / 10);
  std::printf("%zu of %zu prompts are compared, %zu dropped\n", compared, all, all - compared);
}

TEST(Load, PromptTokens) {
  const std::string& directory = fixture_directory(goldens().fixture_arguments);
  const auto config = load_qwen_config(directory);
  ASSERT_TRUE(config) << config.error().message;
  const auto settings = load_qwen_image_settings(directory);
  ASSERT_TRUE(settings);
  const auto input = make_qwen_input_processor(directory, *config, *settings, {4096, 16});
  ASSERT_TRUE(input) << input.error().message;
  for (const ParityGoldens::Case& golden : goldens().cases) {
    const SequenceSpec spec = spec_of(golden, 1, shelf());
    const auto prompt = (*input)->build(spec.request, spec.images);
    ASSERT_TRUE(prompt) << prompt.error().message;
    EXPECT_EQ(prompt->token_ids.size(), golden.prompt_tokens);
    EXPECT_EQ(crc32_of(prompt->token_ids), golden.prompt_crc32);
  }
}

TEST(Load, OneBatch) {
  for (const std::string& shape : fixture_shapes()) {
    const auto engine =
        start_fixture(fixture_options(fixture_directory(goldens(shape).fixture_arguments)));
    ASSERT_NE(engine, nullptr);
    expect_all(*engine, goldens(shape), {});
  }
}

struct Sizes {
  int chunk;  // tokens of a step
  int lanes;
  int block_tokens;
  Part part;
};

void PrintTo(const Sizes& sizes, std::ostream* out) {
  *out << "chunk " << sizes.chunk << ", lanes " << sizes.lanes << ", block " << sizes.block_tokens;
}

class LoadSizes : public ::testing::TestWithParam<Sizes> {};

// Chunks cut prompts anywhere, in the middle of images and windows too; few lanes make a queue.
TEST_P(LoadSizes, ChunksLanesAndBlocks) {
  const Sizes& sizes = GetParam();
  StartOptions options = fixture_options(fixture_directory(goldens().fixture_arguments));
  options.worker.max_num_batched_tokens = sizes.chunk;
  options.worker.max_lanes = sizes.lanes;
  options.worker.kv_block_tokens = block_tokens(sizes.block_tokens);
  const auto engine = start_fixture(options);
  ASSERT_NE(engine, nullptr);
  expect_all(*engine, goldens(), sizes.part);
}

INSTANTIATE_TEST_SUITE_P(All, LoadSizes,
                         ::testing::Values(Sizes{1, 1, 16, {17, 24}}, Sizes{7, 7, 3, {7, 64}},
                                           Sizes{53, 5, 16, {5, 64}}, Sizes{64, 64, 1, {5, 64}},
                                           Sizes{256, 16, 64, {5, 64}},
                                           Sizes{8192, 84, 256, {1, 32}}));

// The same prompts again, and prompts that begin alike: blocks and encoder output of earlier ones
// are used, which changes nothing but the count of tokens that were computed.
TEST(Load, PrefixAndEncoderHits) {
  const ParityGoldens& all = goldens();
  StartOptions options = fixture_options(fixture_directory(all.fixture_arguments));
  options.worker.kv_block_tokens = 16;
  for (const bool cache : {true, false}) {
    options.worker.prefix_cache = cache;
    const auto engine = start_fixture(options);
    ASSERT_NE(engine, nullptr);
    std::uint64_t cached[2] = {};
    for (std::uint64_t& of_round : cached) {
      std::vector<SequenceSpec> specs;
      for (const auto& golden : all.cases) specs.push_back(spec_of(golden, 32, shelf()));
      const auto answers = drive(*engine, std::move(specs));
      for (std::size_t i = 0; i < answers.size(); ++i) {
        expect_tokens(all.cases[i], answers[i], i);
        of_round += answers[i].end.cached_tokens;
        EXPECT_LT(answers[i].end.cached_tokens, all.cases[i].prompt_tokens);
        if (cache && &of_round == &cached[1]) {  // all but what shares a block with the last token
          EXPECT_GE(answers[i].end.cached_tokens + 17, all.cases[i].prompt_tokens) << "case " << i;
        }
      }
    }
    EXPECT_EQ(cache, cached[0] > 0);  // some begin alike
    EXPECT_EQ(cache, cached[1] > 0);
    expect_whole(*engine);
  }
}

// A pool for the longest sequence and little else: sequences are preempted and come back with their
// tokens, some of them many times.
TEST(Load, Preempted) {
  StartOptions options = fixture_options(fixture_directory(goldens().fixture_arguments));
  options.worker.max_model_len = 1536;
  limit_kv_tokens(options, 1700);
  const auto engine = start_fixture(options);
  ASSERT_NE(engine, nullptr);
  ASSERT_LE(engine->kv_blocks_total() * 16, 1700u);
  expect_all(*engine, goldens(), {2, 256});
}

// Sequences come at random steps, with random priorities and, as after a death of a worker, with
// random numbers of committed tokens; some are cancelled. Some prompts come again and again.
class RandomLoad {
 public:
  RandomLoad(Engine& engine, const ParityGoldens& all, std::uint32_t seed)
      : engine_(engine), all_(all), rng_(seed) {}

  void run(std::size_t num_sequences) {
    std::size_t to_add = num_sequences;
    while (to_add > 0 || engine_.has_work()) {
      while (to_add > 0 && (below(6) == 0 || !engine_.has_work())) {
        add();
        --to_add;
      }
      if (below(40) == 0) cancel_one();
      auto updates = engine_.step();
      ASSERT_TRUE(updates) << updates.error().message;
      for (const SequenceUpdate& update : *updates) take(update);
    }
    EXPECT_TRUE(held_.empty());
  }

  std::size_t num_compared = 0;

 private:
  struct Held {
    SequenceSpec spec;
    std::size_t number = 0;
    std::vector<std::int32_t> tokens;  // committed ones first
    bool cancelled = false;
  };

  std::size_t below(std::size_t limit) { return rng_() % limit; }

  void add() {
    Held held;
    held.number = below(3) == 0 ? below(4) : below(all_.cases.size());
    const ParityGoldens::Case& golden = all_.cases[held.number];
    held.spec = spec_of(golden, 1 + below(96), shelf());
    held.spec.request.priority = below(3) == 0 ? Priority::kInteractive : Priority::kBatch;
    const std::size_t max_tokens = held.spec.request.sampling.max_tokens;
    if (below(3) == 0) {
      const auto count = static_cast<std::ptrdiff_t>(below(max_tokens));
      held.tokens.assign(golden.output_ids.begin(), golden.output_ids.begin() + count);
    }
    start(std::move(held));
  }

  void start(Held held) {
    held.spec.committed = held.tokens;
    const Status added = engine_.add(held.spec);
    ASSERT_TRUE(added) << added.error().message;
    held_.push_back(std::move(held));
  }

  void cancel_one() {
    if (held_.empty()) return;
    Held& held = held_[below(held_.size())];
    engine_.cancel(held.spec.id, held.spec.attempt);
    held.cancelled = true;
  }

  void take(const SequenceUpdate& update) {
    const auto at = std::find_if(held_.begin(), held_.end(), [&](const Held& held) {
      return held.spec.id == update.id && held.spec.attempt == update.attempt;
    });
    ASSERT_NE(at, held_.end());
    ASSERT_EQ(update.index, at->tokens.size());
    at->tokens.insert(at->tokens.end(), update.token_ids.begin(), update.token_ids.end());
    if (!update.ended) return;
    Held held = std::move(*at);
    held_.erase(at);
    if (update.end.kind == SequenceEnd::Kind::kPreempted && !held.cancelled) {
      ++held.spec.attempt;
      return start(std::move(held));
    }
    const ParityGoldens::Case& golden = all_.cases[held.number];
    if (!held.cancelled) {
      EXPECT_EQ(update.end.kind, SequenceEnd::Kind::kLength) << update.end.message;
      EXPECT_EQ(held.tokens.size(), held.spec.request.sampling.max_tokens);
    }
    if (golden.is_tie) return;
    EXPECT_TRUE(std::equal(held.tokens.begin(), held.tokens.end(), golden.output_ids.begin()))
        << "case " << held.number;
    ++num_compared;
  }

  Engine& engine_;
  const ParityGoldens& all_;
  std::mt19937 rng_;
  std::vector<Held> held_;
};

TEST(Load, RandomArrivals) {
  const char* given = std::getenv("FACET_SEED");
  const std::uint32_t seed =
      given != nullptr ? static_cast<std::uint32_t>(std::atoll(given)) : std::random_device{}();
  std::printf("seed %u (FACET_SEED)\n", seed);
  std::mt19937 rng(seed);
  const int rounds = is_full_run() ? 12 : 3;
  for (int round = 0; round < rounds; ++round) {
    StartOptions options = fixture_options(fixture_directory(goldens().fixture_arguments), 512);
    options.worker.max_lanes = 1 + static_cast<int>(rng() % 24);
    options.worker.max_num_batched_tokens =
        options.worker.max_lanes + static_cast<int>(rng() % 300);
    options.worker.kv_block_tokens = block_tokens(1 + static_cast<int>(rng() % 40));
    options.worker.max_model_len = 1536;
    limit_kv_tokens(options, 1640 + rng() % 4000);
    const auto engine = start_fixture(options);
    ASSERT_NE(engine, nullptr);
    RandomLoad load(*engine, goldens(), rng());
    load.run(60);
    EXPECT_GT(load.num_compared, 20u);
    expect_whole(*engine);
  }
}

}  // namespace
}  // namespace facet
