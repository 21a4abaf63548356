// Requests and tokens a second through a running daemon.
//   throughput_bench SOCKET REQUESTS IN_FLIGHT MAX_TOKENS [IMAGE]
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "common/client/client.h"
#include "tests/bench/bench_util.h"

namespace facet::bench {
namespace {

struct Load {
  std::string socket;
  int requests = 0;
  int in_flight = 0;
  std::uint32_t max_tokens = 0;
  std::shared_ptr<const std::string> image;
};

void submit(Client& client, const Load& load, int number) {
  GenerateRequest request;
  Message message{"user", {}};
  std::vector<ImageSource> images;
  if (load.image) {
    images.push_back({.path = {}, .bytes = load.image});
    message.content.push_back({ContentPart::Kind::kImage, {}, 0});
  }
  message.content.push_back({ContentPart::Kind::kText, "question " + std::to_string(number), 0});
  request.messages.push_back(std::move(message));
  request.sampling.max_tokens = load.max_tokens;
  request.sampling.ignore_eos = true;
  FACET_CHECK(client.submit(std::move(request), std::move(images)).has_value());
}

int run(const Load& load) {
  auto client = Client::connect(load.socket);
  if (!client) {
    std::fprintf(stderr, "%s\n", client.error().message.c_str());
    return 1;
  }
  const Nanos begin = monotonic_now();
  int submitted = 0, finished = 0;
  std::uint64_t tokens = 0;
  while (finished < load.requests) {
    for (; submitted < load.requests && submitted - finished < load.in_flight; ++submitted) {
      submit(*client, load, submitted);
    }
    for (const ClientEvent& event : client->poll(kSecond)) {
      if (const auto* some = std::get_if<Tokens>(&event)) tokens += some->token_ids.size();
      if (std::holds_alternative<Done>(event)) ++finished;
      if (const auto* failed = std::get_if<Failed>(&event)) {
        std::fprintf(stderr, "%s\n", failed->error.message.c_str());
        return 1;
      }
    }
  }
  const double seconds = static_cast<double>(monotonic_now() - begin) / kSecond;
  std::printf("{\"requests\": %d, \"seconds\": %.3f, \"requests_per_s\": %.0f, "
              "\"tokens_per_s\": %.0f}\n",
              finished, seconds, finished / seconds, static_cast<double>(tokens) / seconds);
  return tokens == std::uint64_t{load.max_tokens} * load.requests ? 0 : 1;
}

}  // namespace
}  // namespace facet::bench

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "throughput_bench SOCKET REQUESTS IN_FLIGHT MAX_TOKENS [IMAGE]\n");
    return 2;
  }
  facet::bench::Load load{argv[1], std::atoi(argv[2]), std::atoi(argv[3]),
                          static_cast<std::uint32_t>(std::atoi(argv[4])), nullptr};
  if (argc > 5) {
    std::ifstream file(argv[5], std::ios::binary);
    load.image = std::make_shared<const std::string>(std::istreambuf_iterator<char>(file),
                                                     std::istreambuf_iterator<char>());
  }
  return facet::bench::run(load);
}
