// Teacher-forced answers through an engine: where its token is not the given one, the sequence goes
// on from the given one, so that logits of every step can be compared with a reference's.
#pragma once

#include <deque>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "tests/parity/golden_cases.h"
#include "worker/engine/model_runner.h"

namespace facet {

// Both outlive the run.
struct ForcedCase {
  const GoldenPrompt* prompt = nullptr;
  std::span<const std::int32_t> output_ids;
};

class ForcedRun {
 public:
  // Logits that the token of a step is chosen from, of every case and step that was added, once.
  using Check = std::function<void(std::size_t number, std::size_t step, std::span<const float>)>;

  ForcedRun(std::vector<ForcedCase> cases, const std::string& image_folder, Check check)
      : cases_(std::move(cases)), shelf_(image_folder), check_(std::move(check)) {}

  // For the options that the engine is started with.
  LogitsTap tap() {
    return [this](std::span<const float> row) { rows_.emplace_back(row.begin(), row.end()); };
  }

  // Logits of the steps [first, end) of a case. The engine has room for all that is added.
  void add(std::size_t number, std::size_t first, std::size_t end);

  // Until all is done. Aborts with a message when the engine fails.
  void run(Engine& engine);

  std::size_t num_forced = 0;  // times that a sequence was put back on the given way
  std::size_t num_steps = 0;

 private:
  struct Held {
    std::size_t number = 0;
    std::size_t step = 0;  // of the next token
    SequenceSpec spec;
  };
  void start(Engine& engine, Held held);
  void take(Engine& engine, const SequenceUpdate& update);
  void take_token(Engine& engine, Held& held, std::int32_t token, std::span<const float> row);

  std::vector<ForcedCase> cases_;
  ImageShelf shelf_;
  Check check_;
  std::vector<Held> added_;
  std::deque<std::vector<float>> rows_;
  std::deque<Held> held_;  // a reference to one stays good while others are added
};

}  // namespace facet
