// Keeps a pool busy for a bench: asks what standard input says, so many at a time, and counts.
//   load_generator SOCKET < PLAN
// PLAN is one JSON object: {"in_flight": N, "images": [FILE..], "asks": [[TEXT, MAX_TOKENS,
// IMAGE]..]} with IMAGE an index of "images" or -1. Answers have exactly MAX_TOKENS tokens. Prints
// one JSON object: what came, the seconds from the first request to the last answer, its own CPU
// seconds. Exit code 1: an answer was refused for good, or had another length.
#include <sys/resource.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/client/client.h"

namespace facet::bench {
namespace {

using Bytes = std::shared_ptr<const std::string>;

struct Ask {
  std::string text;
  std::uint32_t max_tokens = 0;
  int image = -1;
};

struct Plan {
  std::size_t in_flight = 0;
  std::vector<Bytes> images;
  std::vector<Ask> asks;
};

Plan read_plan(std::istream& in) {
  const nlohmann::json json = nlohmann::json::parse(in);
  Plan plan;
  plan.in_flight = json.at("in_flight");
  for (const std::string path : json.at("images")) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path);
    plan.images.push_back(std::make_shared<const std::string>(std::istreambuf_iterator<char>(file),
                                                              std::istreambuf_iterator<char>()));
  }
  for (const auto& ask : json.at("asks")) plan.asks.push_back({ask.at(0), ask.at(1), ask.at(2)});
  return plan;
}

Status submit(Client& client, const Plan& plan, const Ask& ask) {
  GenerateRequest request;
  Message message{"user", {}};
  std::vector<ImageSource> images;
  if (ask.image >= 0) {
    images.push_back({.path = {}, .bytes = plan.images.at(static_cast<std::size_t>(ask.image))});
    message.content.push_back({ContentPart::Kind::kImage, {}, 0});
  }
  message.content.push_back({ContentPart::Kind::kText, ask.text, 0});
  request.messages.push_back(std::move(message));
  request.sampling.max_tokens = ask.max_tokens;
  request.sampling.ignore_eos = true;
  FACET_TRY(client.submit(std::move(request), std::move(images)));
  return {};
}

struct Counts {
  std::size_t answers = 0;
  std::uint64_t tokens = 0;
  std::uint64_t messages = 0;
  std::uint64_t refusals = 0;  // with a hint when to come again
};

Status count(const ClientEvent& event, Counts& counts) {
  if (const auto* some = std::get_if<Tokens>(&event)) {
    counts.tokens += some->token_ids.size();
    ++counts.messages;
  } else if (const auto* done = std::get_if<Done>(&event)) {
    ++counts.answers;
    if (done->reason != FinishReason::kLength)
      return Error(Code::kInternal, "an answer ended otherwise than by its length: " + done->error);
  } else if (const auto* failed = std::get_if<Failed>(&event)) {
    return failed->error;
  } else if (std::holds_alternative<Retrying>(event)) {
    ++counts.refusals;
  }
  return {};
}

double cpu_seconds() {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(use.ru_utime) + seconds(use.ru_stime);
}

Status run(const std::string& socket, const Plan& plan) {
  Client client = FACET_TRY(Client::connect(socket));
  const double cpu = cpu_seconds();
  const Nanos begin = monotonic_now();
  Counts counts;
  std::size_t submitted = 0;
  std::uint64_t due = 0;
  while (counts.answers < plan.asks.size()) {
    for (; submitted < plan.asks.size() && submitted - counts.answers < plan.in_flight;
         ++submitted) {
      FACET_TRY_STATUS(submit(client, plan, plan.asks[submitted]));
      due += plan.asks[submitted].max_tokens;
    }
    for (const ClientEvent& event : client.poll(kSecond)) FACET_TRY_STATUS(count(event, counts));
  }
  const double seconds = static_cast<double>(monotonic_now() - begin) / kSecond;
  std::cout << nlohmann::json{{"answers", counts.answers},   {"tokens", counts.tokens},
                              {"messages", counts.messages}, {"refusals", counts.refusals},
                              {"seconds", seconds},          {"cpu_seconds", cpu_seconds() - cpu}}
            << std::endl;
  if (counts.tokens == due) return {};
  return Error(Code::kInternal, std::to_string(counts.tokens) + " tokens came, " +
                                    std::to_string(due) + " were due");
}

}  // namespace
}  // namespace facet::bench

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "load_generator SOCKET < PLAN\n");
    return 2;
  }
  try {
    const auto done = facet::bench::run(argv[1], facet::bench::read_plan(std::cin));
    if (done) return 0;
    std::fprintf(stderr, "load_generator: %s\n", done.error().message.c_str());
    return 1;
  } catch (const std::exception& error) {  // of the plan
    std::fprintf(stderr, "load_generator: %s\n", error.what());
    return 2;
  }
}
