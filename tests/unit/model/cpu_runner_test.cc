// The CPU runner's memory and company: what it reserves is what was planned, nothing grows once it
// serves, loading stays within its window, and nobody's bits depend on somebody else.
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/checkpoint/safetensors_bytes.h"
#include "worker/checkpoint/checkpoint.h"
#include "worker/checkpoint/qwen_tensors.h"
#include "worker/engine/qwen2_5_vl/cpu_memory.h"
#include "worker/engine/sampler.h"
#include "worker/model/host_float.h"
#include "worker/model/qwen2_5_vl/runner.h"
#include "worker/model/torch_seal.h"

#ifdef __SANITIZE_ADDRESS__
// What is freed would stay resident until as much again is, up to 256 MB.
extern "C" const char* __asan_default_options() {  // run_test.py's options go before these
  return "quarantine_size_mb=1";
}
#endif

namespace facet {
namespace {

const ProgressTick kNoTick = [](WorkerPhase) {};

QwenConfig small_config() {
  QwenConfig config;
  config.text = {200, 48, 80, 3, 6, 2, 512, 1e-6, 1e4, {1, 1, 2}};
  config.vision.depth = 3;
  config.vision.hidden_size = 40;
  config.vision.intermediate_size = 52;
  config.vision.num_heads = 2;
  config.vision.out_hidden_size = 48;
  config.vision.window_size = 56;
  config.vision.full_attention_blocks = {1};
  return config;
}

struct RemoveFolder {
  std::string path;
  ~RemoveFolder() { std::filesystem::remove_all(path); }
};

std::string make_folder() {
  std::string folder = std::filesystem::temp_directory_path() / "facet-cpu-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) std::abort();
  return folder;
}

std::int64_t count_of(const TensorSpec& spec) {
  std::int64_t count = 1;
  for (const std::int64_t size : spec.shape) count *= size;
  return count;
}

// A checkpoint on disk, of random values or of those that `value` gives (name, index).
class FakeTensors {
 public:
  using Value = std::function<float(const std::string&, std::int64_t)>;

  FakeTensors(const QwenConfig& config, TensorDtype dtype, const Value& value)
      : folder_{make_folder()} {
    nlohmann::json header;
    std::string data;
    for (const TensorSpec& spec : qwen_tensor_specs(config)) {
      const std::size_t at = data.size();
      for (std::int64_t i = 0; i < count_of(spec); ++i) put(data, value(spec.name, i), dtype);
      header[spec.name] = {{"dtype", std::string(dtype_name(dtype))},
                           {"shape", spec.shape},
                           {"data_offsets", {at, data.size()}}};
    }
    std::string text = header.dump();
    if (text.size() % 2 == 0) text += ' ';  // tensors lie at odd addresses
    std::ofstream(folder_.path + "/model.safetensors", std::ios::binary)
        << safetensors_bytes(text, data);
    checkpoint_ = std::make_unique<Checkpoint>(Checkpoint::open(folder_.path).value());
    table = bind_qwen_tensors(*checkpoint_, config).value();
  }

  static Value random(std::uint32_t seed) {
    const auto numbers = std::make_shared<std::mt19937>(seed);
    return [numbers](const std::string& name, std::int64_t) {
      std::normal_distribution<float> normal(0.0F, 0.15F);
      return normal(*numbers) + (name.find("norm") == std::string::npos ? 0.0F : 1.0F);
    };
  }

 private:
  static void put(std::string& data, float value, TensorDtype dtype) {
    if (dtype == TensorDtype::kF32) {
      data.append(reinterpret_cast<const char*>(&value), 4);
    } else if (dtype == TensorDtype::kBf16) {
      const Bf16 bf16 = to_bf16(value);
      data.append(reinterpret_cast<const char*>(&bf16.bits), 2);
    } else {
      const auto half = static_cast<_Float16>(value);
      data.append(reinterpret_cast<const char*>(&half), 2);
    }
  }

  RemoveFolder folder_;
  std::unique_ptr<Checkpoint> checkpoint_;

 public:
  TensorTable table;
};

RunnerOptions options_of(bool bf16 = false) {
  RunnerOptions options;
  options.shape = {64, 16, 600, 128, 8, 0};
  options.image_settings.min_pixels = 28 * 28;
  options.image_settings.max_pixels = 100 * 28 * 28;
  options.context_tokens = 512;
  options.image_tokens = 150;
  options.bf16 = bf16;
  return options;
}

// What a step chose, with the logits it chose from.
struct Steps {
  Steps(const QwenConfig& config, const TensorTable& table, RunnerOptions options) {
    options.logits_tap = [this](std::span<const float> row) {
      logits.emplace_back(row.begin(), row.end());
    };
    auto made = make_qwen_runner(config, table, options, kNoTick);
    if (!made) {
      ADD_FAILURE() << made.error().message;
      std::abort();
    }
    runner = std::move(*made);
    defaults.vocab_size = static_cast<std::int32_t>(config.text.vocab_size);
  }

  struct Piece {
    std::vector<std::int32_t> tokens;
    std::int32_t context;
    std::vector<std::int32_t> blocks;
    std::vector<ImageRows> images;
  };

  std::vector<std::vector<float>> step(const std::vector<Piece>& pieces) {
    std::vector<SequenceChunk> chunks;
    std::vector<std::vector<Position>> positions(pieces.size());
    const Sampler sampler({}, defaults, {});
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const Piece& piece = pieces[i];
      for (std::size_t t = 0; t < piece.tokens.size(); ++t) {
        const auto at = piece.context + static_cast<std::int32_t>(t);
        positions[i].push_back({at, at, at});
      }
      SequenceChunk chunk;
      chunk.token_ids = piece.tokens;
      chunk.positions = positions[i];
      chunk.context_tokens = piece.context;
      chunk.blocks = piece.blocks;
      chunk.image_rows = piece.images;
      chunk.lane = static_cast<std::int32_t>(i);
      chunk.sampler = &sampler;
      chunks.push_back(chunk);
    }
    logits.clear();
    const Status done = runner->launch(chunks, kNoTick);
    EXPECT_TRUE(done) << done.error().message;
    const auto chosen = runner->collect();
    not_finite.clear();
    for (const ChosenToken& token : *chosen) not_finite.push_back(token.not_finite);
    return logits;
  }

  std::unique_ptr<ModelRunner> runner;
  SamplingDefaults defaults;
  std::vector<std::vector<float>> logits;
  std::vector<bool> not_finite;
};

std::vector<std::int32_t> tokens_of(std::uint32_t seed, std::size_t count) {
  std::mt19937 random(seed);
  std::vector<std::int32_t> tokens(count);
  for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(random() % 200);
  return tokens;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Picture {
  std::vector<std::uint8_t> bytes;
  EncodeJob job;

  Picture(std::int64_t height, std::int64_t width, std::int32_t row, std::uint32_t seed) {
    std::mt19937 random(seed);
    bytes.resize(static_cast<std::size_t>(3 * height * width));
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
    job.pixels = {bytes.data(), {height, width}, static_cast<std::size_t>(3 * width)};
    job.grid_height = static_cast<std::int32_t>(height / 14);
    job.grid_width = static_cast<std::int32_t>(width / 14);
    job.pool_row = row;
  }
  std::int32_t tokens() const { return job.grid_height * job.grid_width / 4; }
};

class Company : public ::testing::TestWithParam<bool> {};

// A sequence alone and whole, in chunks, token by token, and in a full batch: the same bits.
TEST_P(Company, ChunksAndNeighboursChangeNoBit) {
  const QwenConfig config = small_config();
  const FakeTensors tensors(config, TensorDtype::kBf16, FakeTensors::random(1));
  Steps steps(config, tensors.table, options_of(GetParam()));
  const auto tokens = tokens_of(3, 90);
  const std::vector<std::int32_t> blocks{3, 9, 1, 40, 22, 7};
  const auto piece = [&](std::size_t from, std::size_t to) {
    return Steps::Piece{{tokens.begin() + static_cast<std::ptrdiff_t>(from),
                         tokens.begin() + static_cast<std::ptrdiff_t>(to)},
                        static_cast<std::int32_t>(from),
                        blocks,
                        {}};
  };
  const auto whole = steps.step({piece(0, 90)}).back();
  for (const std::size_t chunk : {1u, 2u, 7u, 16u, 33u, 89u}) {
    std::vector<float> last;
    for (std::size_t from = 0; from < 90; from += chunk) {
      std::vector<Steps::Piece> pieces{piece(from, std::min<std::size_t>(90, from + chunk))};
      for (std::int32_t other = 0; other < 5; ++other)
        pieces.push_back(
            {tokens_of(static_cast<std::uint32_t>(from) + 10, 7), 0, {50 + other}, {}});
      last = steps.step(pieces).front();
    }
    EXPECT_TRUE(same(whole, last)) << "chunks of " << chunk;
  }
}

// Images of different sizes in one pass, or in several, and each alone.
TEST_P(Company, ImagesOfAPassChangeNoBit) {
  const QwenConfig config = small_config();
  const FakeTensors tensors(config, TensorDtype::kF32, FakeTensors::random(2));
  Steps steps(config, tensors.table, options_of(GetParam()));
  const std::vector<std::pair<int, int>> sizes{{56, 84},   {28, 28},  {280, 252},
                                               {140, 28},  {84, 84},  {252, 280},
                                               {112, 196}, {28, 140}, {280, 280}};
  std::vector<Picture> pictures;
  std::int32_t row = 0;
  for (const auto& [height, width] : sizes) {
    pictures.emplace_back(height, width, row, static_cast<std::uint32_t>(row) + 5);
    row += pictures.back().tokens();
  }
  ASSERT_LE(row, 600);
  const auto look = [&](const Picture& picture) {
    const std::int32_t count = std::min(picture.tokens(), 120);
    return steps
        .step({{std::vector<std::int32_t>(static_cast<std::size_t>(count), 1),
                0,
                {0, 1, 2, 3, 4, 5, 6, 7},
                {{0, count, picture.job.pool_row}}}})
        .back();
  };
  std::vector<std::vector<float>> alone;
  for (const Picture& picture : pictures) {
    ASSERT_TRUE(steps.runner->encode({&picture.job, 1}, kNoTick));
    alone.push_back(look(picture));
  }
  std::vector<EncodeJob> jobs;
  for (const Picture& picture : pictures) jobs.push_back(picture.job);
  for (int round = 0; round < 3; ++round) {
    for (const Picture& picture : pictures) {  // what another image left there
      EncodeJob other = pictures.front().job;
      other.pool_row = std::min(picture.job.pool_row, 600 - pictures.front().tokens());
      ASSERT_TRUE(steps.runner->encode({&other, 1}, kNoTick));
    }
    const auto done = steps.runner->encode(jobs, kNoTick);
    ASSERT_TRUE(done);
    for (std::size_t i = 0; i < pictures.size(); ++i)
      EXPECT_TRUE(same(alone[i], look(pictures[i]))) << "image " << i;
    std::rotate(jobs.begin(), jobs.begin() + 4, jobs.end());
  }
}

// An image that was another request's fails alone; the others of its pass are as ever.
TEST_P(Company, ALostImageFailsAlone) {
  const QwenConfig config = small_config();
  const FakeTensors tensors(config, TensorDtype::kF32, FakeTensors::random(2));
  Steps steps(config, tensors.table, options_of(GetParam()));
  std::vector<Picture> pictures;
  pictures.emplace_back(56, 84, 0, 1);
  pictures.emplace_back(84, 84, 10, 2);
  pictures.emplace_back(28, 140, 30, 3);
  std::vector<EncodeJob> jobs{pictures[0].job, pictures[1].job, pictures[2].job};
  const auto look = [&] { return steps.step({{{1, 1, 1, 1, 1}, 0, {0}, {{0, 5, 30}}}}).back(); };
  ASSERT_TRUE(steps.runner->encode(jobs, kNoTick));
  const auto before = look();
  jobs[1].is_current = [] { return false; };
  const auto done = steps.runner->encode(jobs, kNoTick);
  ASSERT_TRUE(done);
  EXPECT_TRUE((*done)[0]);
  ASSERT_FALSE((*done)[1]);
  EXPECT_EQ((*done)[1].error().code, Code::kCorrupt);
  EXPECT_TRUE((*done)[2]);
  EXPECT_TRUE(same(before, look()));
}

// A NaN in one row of the embedding ends the sequences with that token; their neighbours keep
// their bits, in blocks that the sick sequence had before, too.
TEST_P(Company, NanReachesNobodyElse) {
  const QwenConfig config = small_config();
  const FakeTensors tensors(config, TensorDtype::kF32, FakeTensors::random(1));
  const auto healthy = tokens_of(5, 40);
  const auto run = [&](Steps& steps, bool with_sick) {
    std::vector<Steps::Piece> pieces{{healthy, 0, {2, 3, 4}, {}}};
    if (with_sick) pieces.push_back({{7, 199, 8}, 0, {5}, {}});
    return steps.step(pieces).front();
  };
  ASSERT_EQ(std::count(healthy.begin(), healthy.end(), 199), 0);
  Steps good(config, tensors.table, options_of(GetParam()));
  const auto want = run(good, false);
  const auto value = FakeTensors::random(1);
  const FakeTensors sick(config, TensorDtype::kF32, [&](const std::string& name, std::int64_t i) {
    const float healthy_value = value(name, i);
    const bool here = name == "model.language_model.embed_tokens.weight" && i == 199 * 48 + 5;
    return here ? NAN : healthy_value;
  });
  Steps steps(config, sick.table, options_of(GetParam()));
  EXPECT_TRUE(same(want, run(steps, true)));
  EXPECT_EQ(steps.not_finite, (std::vector<bool>{false, true}));
  steps.step({{{199, 199, 199}, 0, {2}, {}}});  // NaN keys and values stay in block 2
  EXPECT_TRUE(same(want, run(steps, false)));
  EXPECT_EQ(steps.not_finite, (std::vector<bool>{false}));
}

INSTANTIATE_TEST_SUITE_P(Dtypes, Company, ::testing::Values(false, true));

// fp16, bf16 and fp32 files with the same values are the same model.
TEST(CpuRunner, SourceTypesAgree) {
  const QwenConfig config = small_config();
  std::vector<std::vector<float>> answers;
  for (const TensorDtype dtype : {TensorDtype::kF32, TensorDtype::kBf16, TensorDtype::kF16}) {
    const FakeTensors tensors(config, dtype, [](const std::string&, std::int64_t i) {
      return static_cast<float>((i * 37 + 11) % 64 - 32) / 128.0F;  // all three can hold it
    });
    Steps steps(config, tensors.table, options_of());
    answers.push_back(steps.step({{tokens_of(1, 20), 0, {0, 1}, {}}}).front());
  }
  EXPECT_TRUE(same(answers[0], answers[1]));
  EXPECT_TRUE(same(answers[0], answers[2]));
}

std::int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::int64_t total = 0;
  std::int64_t resident = 0;
  file >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

// Thousands of mixed steps: libtorch makes no tensor, and neither the heap nor what is resident
// grows. With libtorch's products its tensors stay within the planned workspace.
TEST(CpuRunner, NothingGrowsOnceItServes) {
  const QwenConfig config = small_config();
  const FakeTensors tensors(config, TensorDtype::kBf16, FakeTensors::random(1));
  for (const bool library : {false, true}) {
    RunnerOptions options = options_of(library);
    options.library_products = library;
    Steps steps(config, tensors.table, options);
    std::mt19937 random(7);
    const auto mixed = [&] {
      std::vector<Picture> pictures;
      for (std::uint32_t i = 0; i < random() % 4; ++i)
        pictures.emplace_back(28 * (1 + random() % 9), 28 * (1 + random() % 9), 120 * i, i);
      std::vector<EncodeJob> jobs;
      for (const Picture& picture : pictures) jobs.push_back(picture.job);
      ASSERT_TRUE(steps.runner->encode(jobs, kNoTick));
      std::vector<Steps::Piece> pieces;
      for (std::int32_t i = 0; i < 8; ++i)
        pieces.push_back({tokens_of(random(), random() % 2 == 0 ? 1 : 1 + random() % 16),
                          static_cast<std::int32_t>(random() % 100),
                          {i, i + 8, i + 16, i + 24, i + 32, i + 40, i + 48, i + 56},
                          {}});
      steps.step(pieces);
    };
    const std::int64_t before = resident_bytes();
    for (int i = 0; i < 300; ++i) mixed();
    const std::uint64_t tensors_made = torch_allocations();
    const std::int64_t resident = resident_bytes();
    const struct mallinfo2 heap = ::mallinfo2();
    for (int i = 0; i < 2000; ++i) mixed();
    EXPECT_EQ(torch_allocations(), tensors_made) << "library " << library;
    if (library) {  // its matrix library keeps code for the numbers of rows that it met last
      CpuLimits limits;
      limits.library_products = true;
      const auto planned = static_cast<std::int64_t>(library_code_bytes(limits));
      std::printf("library code: %.1f MB of %.1f\n",
                  static_cast<double>(resident_bytes() - before) / 1e6,
                  static_cast<double>(planned) / 1e6);
      EXPECT_LE(resident_bytes() - before, planned);
      continue;
    }
    EXPECT_LE(::mallinfo2().uordblks, heap.uordblks + 65536);
    EXPECT_LE(::mallinfo2().hblks, heap.hblks);
    EXPECT_LE(resident_bytes(), resident + (1 << 20));
  }
}

// A checkpoint of 400 MB is loaded by a process of its own: its peak is the arena, the window of
// the file, and what the process was before.
TEST(CpuRunner, LoadingStaysWithinItsWindow) {
  QwenConfig config = small_config();
  config.text = {40000, 1024, 4096, 8, 16, 4, 512, 1e-6, 1e4, {8, 12, 12}};
  config.vision.out_hidden_size = 1024;
  const RemoveFolder folder{make_folder()};
  const std::string path = folder.path + "/model.safetensors";
  {
    nlohmann::json header;
    std::uint64_t at = 0;
    for (const TensorSpec& spec : qwen_tensor_specs(config)) {
      const std::uint64_t bytes = 2 * static_cast<std::uint64_t>(count_of(spec));
      header[spec.name] = {
          {"dtype", "BF16"}, {"shape", spec.shape}, {"data_offsets", {at, at + bytes}}};
      at += bytes;
    }
    const std::string begin = safetensors_bytes(header.dump(), "");
    std::ofstream(path, std::ios::binary) << begin;
    std::filesystem::resize_file(path, begin.size() + at);
    ASSERT_GT(at, 350'000'000u);
  }
  RunnerOptions options = options_of(true);
  const pid_t child = ::fork();
  if (child == 0) {
    const std::int64_t before = resident_bytes();
    const auto checkpoint = Checkpoint::open(folder.path);
    if (!checkpoint) _exit(2);
    const auto table = bind_qwen_tensors(*checkpoint, config);
    if (!table) _exit(3);
    const auto runner = make_qwen_runner(config, *table, options, kNoTick);
    if (!runner) _exit(4);
    struct rusage usage {};
    ::getrusage(RUSAGE_SELF, &usage);
    CpuLimits limits;
    limits.item_bytes = 2;
    limits.step_tokens = options.shape.max_step_tokens;
    limits.step_chunks = options.shape.max_step_chunks;
    limits.context_tokens = options.context_tokens;
    limits.image_tokens = options.image_tokens;
    limits.encoder_rows = options.shape.encoder_rows;
    limits.kv_blocks = options.shape.num_blocks;
    limits.kv_block_tokens = options.shape.block_tokens;
    const auto arena = static_cast<std::int64_t>(arena_bytes(config, limits));
    // libtorch's own start is not in `before`.
    constexpr std::int64_t kLibrary = 60'000'000;
    const std::int64_t most = before + arena + kLoadingWindow + kLibrary;
    std::fprintf(stderr, "peak %ld MB, arena %ld MB, before %ld MB\n",
                 static_cast<long>(usage.ru_maxrss / 1024), static_cast<long>(arena >> 20),
                 static_cast<long>(before >> 20));
    _exit(std::int64_t{usage.ru_maxrss} * 1024 <= most ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0) << "1: above its window; 2 to 4: did not load";
}

// More than the host has is refused with the numbers, not by the kernel later.
TEST(CpuRunner, MoreThanTheHostHasIsRefused) {
  const QwenConfig config = small_config();
  const FakeTensors tensors(config, TensorDtype::kBf16, FakeTensors::random(1));
  RunnerOptions options = options_of();
  options.shape.num_blocks = 1 << 30;
  const auto runner = make_qwen_runner(config, tensors.table, options, kNoTick);
  ASSERT_FALSE(runner);
  EXPECT_EQ(runner.error().code, Code::kExhausted);
  EXPECT_NE(runner.error().message.find("needs"), std::string::npos) << runner.error().message;
  EXPECT_NE(runner.error().message.find("has"), std::string::npos) << runner.error().message;
}

}  // namespace
}  // namespace facet
