#include "broker/decoder/decoder_main.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "broker/decoder/decode_server.h"
#include "common/config/config.h"
#include "common/control/fds.h"

namespace facet {
namespace {

DecodeServerOptions options_from(const DecoderConfig& config) {
  DecodeServerOptions options;
  options.job_fd = kDecoderJobFd;
  options.ring_fd = kDecoderRingFd;
  options.lifeline_fd = fcntl(kDecoderLifelineFd, F_GETFD) >= 0 ? kDecoderLifelineFd : -1;
  options.max_children = config.processes > 0 ? static_cast<std::uint32_t>(config.processes)
                                              : std::max(1u, std::thread::hardware_concurrency());
  options.limits.cpu_seconds = static_cast<std::uint32_t>(config.cpu_seconds);
  options.limits.memory_bytes = config.memory_bytes;
  return options;
}

int fail(int code, const std::string& message) {
  std::fprintf(stderr, "facet-decoder: %s\n", message.c_str());
  return code;
}

}  // namespace

int run_decoder(int argc, char** argv) {
  if (argc != 3 || std::strcmp(argv[1], "--config") != 0) {
    return fail(kExitUsage, "usage: facet-decoder --config FILE (started by facetd)");
  }
  const auto config = load_config(argv[2]);
  if (!config) return fail(kExitBadConfig, config.error().message);
  auto server = DecodeServer::create(options_from(config->decoder));
  if (!server) return fail(kExitUsage, server.error().message);
  std::signal(SIGINT, SIG_IGN);  // a terminal's Ctrl-C is the supervisor's business
  const Status status = server->run();
  return status ? kExitOk : fail(kExitFailure, status.error().message);
}

}  // namespace facet
