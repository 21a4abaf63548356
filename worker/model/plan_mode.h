// `facet-worker --plan DIR [--memory 15GB] [--json] [...]`: the memory plan of a model, nothing
// loaded.
#pragma once

namespace facet {

// Prints the plan and returns the exit code: kExitBadConfig when the model does not fit or its
// files are wrong, kExitUsage for a bad command line.
int run_plan_mode(int argc, char** argv);

}  // namespace facet
