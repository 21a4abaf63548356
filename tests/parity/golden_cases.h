// Golden files of scripts/make_goldens.py, and their images.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/protocol/messages.h"
#include "worker/engine/engine.h"

namespace facet {

struct RgbPixels {
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  std::vector<std::uint8_t> bytes;  // rows of 3 * width
};

// Aborts with a message when the file is no PNG.
RgbPixels read_png(const std::string& path);

struct GoldenPrompt {
  std::vector<Message> messages;
  std::vector<std::string> images;  // paths under the golden's folder, in the order of the parts
};

struct GoldenCase : GoldenPrompt {
  double repetition_penalty = 1.0;
  std::vector<std::int32_t> prompt_ids;
  std::vector<std::int32_t> output_ids;
  std::string text;
};

// All cases of a golden file of scripts/make_goldens.py.
std::vector<GoldenCase> read_golden_cases(const std::string& path);

// A file of scripts/make_parity_goldens.py: long answers and their logits.
struct ParityGoldens {
  struct Case : GoldenPrompt {
    std::uint32_t prompt_tokens = 0;
    std::uint32_t prompt_crc32 = 0;  // of the ids as little-endian int32
    std::vector<std::int32_t> output_ids;
    double min_margin = 0.0;  // least distance of the two best logits over all steps
    bool is_tie = false;      // it is below the stated margin: other tokens are right as well
  };
  // How far a path of the reference in fewer bits is from its fp32 path, over the kept rows.
  struct Spread {
    double max = 0.0;
    double mean = 0.0;
  };

  std::string fixture_arguments;  // of scripts/make_fixture_checkpoint.py
  std::vector<Case> cases;
  std::vector<std::size_t> row_steps;
  std::size_t row_cases = 0;
  std::size_t vocab_size = 0;
  double sdpa_max_difference = 0.0;  // of the reference's two fp32 paths
  struct Paths {
    Spread sdpa, eager;
  };
  Paths bf16, fp16;

  float chosen_logit(std::size_t number, std::size_t step) const;
  float probe_logit(std::size_t number, std::size_t step) const;  // of probe_token(step)
  std::size_t probe_token(std::size_t step) const { return (step * 7919 + 13) % vocab_size; }
  // All logits of the `row`-th of row_steps; `number` is below row_cases.
  std::vector<float> row(std::size_t number, std::size_t row) const;

  std::vector<float> logits_, rows_;  // as the files hold them
};

// `shape` names the files in tests/data/parity.
ParityGoldens read_parity_goldens(const std::string& folder, const std::string& shape);

// CRC-32 of zlib and PNG over the ids.
std::uint32_t crc32_of(const std::vector<std::int32_t>& ids);

// Pixels by path, read once.
class ImageShelf {
 public:
  explicit ImageShelf(std::string folder) : folder_(std::move(folder)) {}
  ImageView view(const std::string& name);  // stays valid with the shelf

 private:
  std::string folder_;
  std::map<std::string, RgbPixels> images_;
};

// The prompt under a random id, greedy, always `num_tokens` long. Its images stay with the shelf.
SequenceSpec spec_of(const GoldenPrompt& golden, std::size_t num_tokens, ImageShelf& shelf);

}  // namespace facet
