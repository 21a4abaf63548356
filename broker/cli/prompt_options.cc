#include "broker/cli/prompt_options.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <fstream>
#include <iostream>
#include <sstream>

#include "common/protocol/codec.h"
#include "common/protocol/limits.h"

namespace facet {
namespace {

void add_sampling_options(CLI::App& app, SamplingParams& sampling) {
  const std::string group = "Sampling";
  app.add_option("--max-tokens", sampling.max_tokens, "length of the answer (the server's default)")
      ->check(CLI::Range(std::uint32_t{1}, UINT32_MAX))
      ->group(group);
  app.add_option("--min-tokens", sampling.min_tokens, "no end before this many")->group(group);
  app.add_option("--temperature", sampling.temperature, "0 = greedy, the default")->group(group);
  app.add_option("--top-p", sampling.top_p, "1 = off, the default")->group(group);
  app.add_option("--top-k", sampling.top_k, "0 = off, the default")->group(group);
  app.add_option("--min-p", sampling.min_p, "0 = off, the default")->group(group);
  app.add_option("--repetition-penalty", sampling.repetition_penalty,
                 "1 = off; the model's own by default")
      ->group(group);
  app.add_option("--presence-penalty", sampling.presence_penalty, "0 = off")->group(group);
  app.add_option("--frequency-penalty", sampling.frequency_penalty, "0 = off")->group(group);
  app.add_option("--seed", sampling.seed, "the same seed gives the same answer")->group(group);
  app.add_option("--stop", sampling.stop, "end at this text; may be given several times")
      ->allow_extra_args(false)
      ->group(group);
  app.add_option("--logprobs", sampling.logprobs,
                 "with --json and in JSONL: each token's logprob, and this many alternatives")
      ->group(group);
  app.add_flag("--ignore-eos", sampling.ignore_eos, "go on to --max-tokens")->group(group);
}

Result<std::string> read_stream(std::istream& stream, const std::string& name) {
  std::string text(kMaxMapBytes + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(stream.gcount()));
  if (text.size() > kMaxMapBytes) {
    return Error(Code::kTooLarge,
                 name + ": the prompt exceeds " + std::to_string(kMaxMapBytes) + " bytes");
  }
  if (text.ends_with('\n')) text.pop_back();
  if (text.empty()) return Error(Code::kInvalidArgument, name + ": the prompt is empty");
  return text;
}

}  // namespace

void add_prompt_options(CLI::App& app, PromptOptions& options) {
  app.add_option("-p,--prompt", options.prompt, "the question; - reads standard input");
  app.add_option("--prompt-file", options.prompt_file, "the question, from a file");
  app.add_option("-s,--system", options.system, "system text ahead of the conversation");
  app.add_option("--deadline", options.deadline_s, "seconds for one answer (the server's default)")
      ->check(CLI::Range(0.001, 4e6));
  add_sampling_options(app, options.sampling);
  const std::string group = "Daemon";
  auto* socket =
      app.add_option("--socket", options.daemon.socket, "the daemon's socket")->group(group);
  auto* config = app.add_option("--config", options.daemon.config,
                                "the daemon of this configuration; a private one if it is not up")
                     ->group(group);
  auto* model =
      app.add_option("--model", options.daemon.model, "a private daemon for this model directory")
          ->group(group);
  socket->excludes(config)->excludes(model);
  config->excludes(model);
}

Result<std::string> read_prompt(const PromptOptions& options) {
  if (!options.prompt.empty() && !options.prompt_file.empty()) {
    return Error(Code::kInvalidArgument, "give --prompt or --prompt-file, not both");
  }
  if (!options.prompt_file.empty()) {
    std::ifstream file(options.prompt_file, std::ios::binary);
    if (!file) return errno_error(options.prompt_file, errno);
    return read_stream(file, options.prompt_file);
  }
  if (options.prompt.empty()) {
    return Error(Code::kInvalidArgument, "a prompt is needed: -p TEXT, -p - or --prompt-file FILE");
  }
  if (options.prompt == "-") return read_stream(std::cin, "standard input");
  return options.prompt;
}

GenerateRequest make_request(const PromptOptions& options, const std::string& prompt,
                             std::size_t num_images, Priority priority) {
  GenerateRequest request;
  if (!options.system.empty()) {
    request.messages.push_back(
        Message{"system", {ContentPart{ContentPart::Kind::kText, options.system, 0}}});
  }
  Message user{"user", {}};
  for (std::size_t i = 0; i < num_images; ++i) {
    user.content.push_back(
        ContentPart{ContentPart::Kind::kImage, "", static_cast<std::uint32_t>(i)});
  }
  user.content.push_back(ContentPart{ContentPart::Kind::kText, prompt, 0});
  request.messages.push_back(std::move(user));
  request.num_images = static_cast<std::uint32_t>(num_images);
  request.sampling = options.sampling;
  request.priority = priority;
  request.deadline_ms = static_cast<std::uint32_t>(options.deadline_s * 1000.0);
  return request;
}

Status check_request(const PromptOptions& options, const std::string& prompt,
                     std::size_t num_images) {
  if (!std::isfinite(options.deadline_s)) {  // a range takes what is not a number
    return Error(Code::kInvalidArgument, "--deadline: is not a number of seconds");
  }
  GenerateRequest request = make_request(options, prompt, num_images, Priority::kBatch);
  request.id = RequestId::random();
  const auto checked = decode_client_message(encode_message(request));
  return checked ? Status() : Status(checked.error());
}

}  // namespace facet
