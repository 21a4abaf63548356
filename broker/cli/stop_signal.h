// Ctrl-C and friends as a level that loops look at. Blocking calls return early (EINTR).
#pragma once

namespace facet {

enum class StopLevel {
  kNone,
  kFinish,  // one SIGINT: begin nothing new
  kQuit,    // a second SIGINT, or SIGTERM or SIGHUP: leave now, tidily
};

void install_stop_signals();
StopLevel stop_level();

}  // namespace facet
