// The TOML configuration: what is accepted survives its own description, what is refused is named.
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "common/base/check.h"
#include "common/config/config.h"
#include "tests/fuzz/fuzz_target.h"

namespace facet::fuzz {
namespace {

constexpr std::string_view kPlaces[] = {"fuzz.toml:"};

}  // namespace

std::vector<std::string> seeds() {
  std::ostringstream example;
  example << std::ifstream(FACET_SOURCE_DIR "/configs/facet.toml").rdbuf();
  FACET_CHECK(!example.str().empty());
  return {example.str(), describe(Config{}), "[worker]\nengine = \"echo\"\n",
          "[worker]\nengine = \"echo\"\ngpus = [0, \"GPU-aa\"]\n"
          "device_max_memory = \"1GB 2GiB\"\n",
          "[broker]\nsocket = \"../x.sock\"\n[model]\npath = \"m\"\n[log]\nfile = 3\n"};
}

void run_one(std::string_view input) {
  setenv("XDG_RUNTIME_DIR", "/run/user/1", 1);
  const auto config = parse_config(input, "fuzz.toml", "/folder");
  if (!config) {
    FACET_CHECK(config.error().code == Code::kInvalidArgument);
    // Every problem has a line of its own; an operator sees them all.
    std::istringstream lines(config.error().message);
    std::string line;
    while (std::getline(lines, line)) {
      check_refusal(Error(Code::kInvalidArgument, line), input.size() + 4096, kPlaces);
    }
    return;
  }
  const auto again = parse_config(describe(*config), "description", "/elsewhere");
  FACET_CHECK_MSG(again, again.error().message.c_str());
  FACET_CHECK_MSG(*again == *config, "the description is of another configuration");
}

}  // namespace facet::fuzz
