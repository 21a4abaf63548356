// `facet`: the command line.
#pragma once

namespace facet {

// Parses the arguments and runs the command; returns the exit code. Nothing is thrown.
int run_cli(int argc, char** argv);

}  // namespace facet
