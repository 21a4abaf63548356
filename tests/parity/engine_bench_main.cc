// How fast the engine is on this machine, with no daemon around it:
//   engine_bench MODEL_DIR [THREADS] [fp32|bf16] [WIDTH HEIGHT]
// Prints prefill of one image, decoding in batches of 1 and 16, and short answers about many
// images.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "tests/parity/drive_engine.h"
#include "worker/model/model_start.h"

namespace facet {
namespace {

// Processor time of all threads. With one thread it is what the wall clock shows on an idle
// machine, and it says the same on a busy one.
struct Stopwatch {
  bool processor_time = false;
  Nanos start = now();

  Nanos now() const {
    return read_clock(processor_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC);
  }
  double seconds() const { return static_cast<double>(now() - start) * 1e-9; }
};

struct Bench {
  std::unique_ptr<Engine> engine;
  std::vector<std::uint8_t> pixels;
  std::uint32_t width = 224;
  std::uint32_t height = 224;
  bool processor_time = false;

  std::vector<SequenceSpec> specs(std::size_t count, std::uint32_t tokens, bool image) const {
    SequenceSpec spec;
    Message message{"user", {}};
    if (image) {
      message.content.push_back({ContentPart::Kind::kImage, "", 0});
      spec.request.num_images = 1;
      spec.images.push_back({pixels.data(), width, height, 0, 0, [] { return true; }});
    }
    message.content.push_back({ContentPart::Kind::kText, "What is shown in the picture?", 0});
    spec.request.messages = {message};
    spec.request.sampling.max_tokens = tokens;
    spec.request.sampling.ignore_eos = true;
    return std::vector<SequenceSpec>(count, spec);
  }

  // Seconds, the best of several runs: other processes only ever add to them.
  double time(std::size_t count, std::uint32_t tokens, bool image, int runs) const {
    double best = 1e9;
    for (int run = 0; run < runs; ++run) {
      const Stopwatch watch{processor_time};
      (void)drive(*engine, specs(count, tokens, image));
      best = std::min(best, watch.seconds());
    }
    return best;
  }
};

int run(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: engine_bench MODEL_DIR [THREADS] [fp32|bf16] [WIDTH HEIGHT]\n");
    return 2;
  }
  StartOptions options;
  options.directory = argv[1];
  options.worker.count = 1;
  options.worker.credits = 256;
  options.worker.threads = argc > 2 ? std::atoi(argv[2]) : 1;
  options.dtype = argc > 3 && std::string(argv[3]) == "bf16" ? Dtype::kBf16 : Dtype::kFp32;
  Bench bench;
  if (argc > 5) {
    bench.width = static_cast<std::uint32_t>(std::atoi(argv[4]));
    bench.height = static_cast<std::uint32_t>(std::atoi(argv[5]));
  }
  bench.pixels.resize(std::size_t{3} * bench.width * bench.height);
  for (std::size_t i = 0; i < bench.pixels.size(); ++i)
    bench.pixels[i] = static_cast<std::uint8_t>(i * 2654435761u >> 13);
  bench.processor_time = options.worker.threads == 1;
  std::printf("%d threads, %s\n", options.worker.threads,
              bench.processor_time ? "processor time" : "wall clock");
  const Stopwatch watch{bench.processor_time};
  auto engine = start_model_engine(options, [](WorkerPhase) {});
  if (!engine) {
    std::fprintf(stderr, "%s\n", engine.error().message.c_str());
    return 1;
  }
  bench.engine = std::move(*engine);
  std::printf("start                    %8.1f ms\n", 1e3 * watch.seconds());
  const double text = bench.time(1, 1, false, 5);
  const double image = bench.time(1, 1, true, 5);
  std::printf("prefill, text            %8.1f ms\n", 1e3 * text);
  std::printf("prefill, one image       %8.1f ms\n", 1e3 * image);
  for (const std::size_t batch : {1u, 16u}) {
    const double one = bench.time(batch, 1, false, 3);
    const double many = bench.time(batch, 129, false, 3);
    std::printf("decode, batch %-2zu         %8.0f tokens/s (%.2f ms a step)\n", batch,
                128.0 * static_cast<double>(batch) / (many - one), 1e3 * (many - one) / 128.0);
  }
  const double answers = bench.time(64, 8, true, 2);
  std::printf("answers of 8 tokens      %8.1f images/s\n", 64.0 / answers);
  return 0;
}

}  // namespace
}  // namespace facet

int main(int argc, char** argv) {
  return facet::run(argc, argv);
}
