#include "worker/service/tokenize_mode.h"

#include <cstdio>
#include <iostream>
#include <iterator>

#include "common/control/fds.h"
#include "worker/text/tokenize.h"

namespace facet {

int tokenize_standard_input(const std::string& model_dir) {
  const std::string text{std::istreambuf_iterator<char>(std::cin), {}};
  auto ids = tokenize_text(model_dir, text);
  if (!ids) {
    std::fprintf(stderr, "tokenize: %s\n", ids.error().message.c_str());
    return kExitBadConfig;
  }
  const char* blank = "";
  for (auto id : *ids) {
    std::printf("%s%d", blank, static_cast<int>(id));
    blank = " ";
  }
  std::printf("\n");
  return std::fflush(stdout) == 0 ? kExitOk : kExitFailure;
}

}  // namespace facet
