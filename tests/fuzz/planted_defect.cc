// Not a target of its own: a defect that libFuzzer must find, so that a run that finds nothing
// means something.
#include "common/base/check.h"
#include "tests/fuzz/fuzz_target.h"

namespace facet::fuzz {

std::vector<std::string> seeds() {
  return {"harmless"};
}

void run_one(std::string_view input) {
  FACET_CHECK_MSG(!input.starts_with("DEFECT"), "the planted defect");
}

}  // namespace facet::fuzz
