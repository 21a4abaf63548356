// Asks the supervisor of a daemon for something (common/control/operator_packets.h).
#pragma once

#include <functional>
#include <string>

#include "broker/cli/socket_search.h"
#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/control/operator_packets.h"

namespace facet {

struct OperatorLink {
  std::string path;
  UniqueFd fd;  // connected
};

// To the daemon that `options` name, by the rules of choose_sockets(): the operators' socket lies
// in the runtime folder, beside the clients' socket unless that was put elsewhere (then --config).
// kNotFound: nobody listens. kUnsupported: no permission.
Result<OperatorLink> connect_operator(const DaemonOptions& options);

struct OperatorAnswer {
  int exit_code = 0;
  std::string text;
};

// Sends the request, one for each link, and waits for its end; `progress` gets every line before
// that. kClosed: the daemon went away meanwhile. kCancelled: interrupted; what was asked for goes
// on.
Result<OperatorAnswer> ask_operator(const OperatorLink& link, const OperatorRequest& request,
                                    const std::function<void(const std::string&)>& progress);

}  // namespace facet
