// The door between libFuzzer and a target.
#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "common/base/check.h"
#include "common/protocol/text_check.h"
#include "tests/fuzz/fuzz_target.h"

namespace facet::fuzz {

void check_refusal(const Error& error, std::size_t max_bytes,
                   std::span<const std::string_view> places) {
  FACET_CHECK_MSG(!error.message.empty(), "a refusal without a word");
  FACET_CHECK_MSG(error.message.size() <= max_bytes, error.message.c_str());
  FACET_CHECK_MSG(is_utf8(error.message), error.message.c_str());
  for (const std::string_view place : places) {
    if (error.message.starts_with(place)) return;
  }
  FACET_CHECK_MSG(false, error.message.c_str());
}

}  // namespace facet::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* folder = std::getenv("FACET_FUZZ_SEEDS");
  if (folder == nullptr) return 0;
  int count = 0;
  for (const std::string& seed : facet::fuzz::seeds()) {
    std::ofstream file(std::string(folder) + "/own-" + std::to_string(count++), std::ios::binary);
    file << seed;
    FACET_CHECK_MSG(file.good(), folder);
  }
  std::exit(0);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  facet::fuzz::run_one({reinterpret_cast<const char*>(data), size});
  return 0;
}
