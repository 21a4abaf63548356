// facet-decoder's life: arguments, configuration, descriptors, server.
#pragma once

namespace facet {

// Exit code of the process. Arguments: --config FILE.
int run_decoder(int argc, char** argv);

}  // namespace facet
