// Asks the supervisor of a daemon for something (common/control/operator_packets.h).
#pragma once

#include <functional>
#include <string>

#include "broker/cli/socket_search.h"
#include "common/base/result.h"
#include "common/control/operator_packets.h"

namespace facet {

// The operators' socket of the daemon that `options` name, by the rules of choose_sockets(): it
// lies in the runtime folder, beside the clients' socket unless that was put elsewhere (then
// --config).
Result<std::string> find_operator_socket(const DaemonOptions& options);

struct OperatorAnswer {
  int exit_code = 0;
  std::string text;
};

// Sends the request and waits for its end; `progress` gets every line before that.
// kNotFound: nobody listens. kUnsupported: no permission. kClosed: the daemon went away meanwhile.
// kCancelled: interrupted; what was asked for goes on.
Result<OperatorAnswer> ask_operator(const std::string& socket_path, const OperatorRequest& request,
                                    const std::function<void(const std::string&)>& progress);

}  // namespace facet
