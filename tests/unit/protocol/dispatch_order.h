// What a broker says of a request: tests and benches have no ledger that holds it encoded.
#pragma once

#include "common/protocol/codec.h"

namespace facet {

inline DispatchOrder order_of(const Dispatch& dispatch) {
  return {dispatch.request.id,
          dispatch.attempt,
          encode_request_body(dispatch.request),
          dispatch.request.sampling.max_tokens,
          dispatch.request.deadline_ms,
          dispatch.images,
          dispatch.committed};
}

inline std::string encode_message(const Dispatch& dispatch) {
  std::string bytes;
  encode_message(order_of(dispatch), bytes);
  return bytes;
}

}  // namespace facet
