// Where exceptions of libtorch end: each call into it goes through torch_guard, which turns what is
// thrown into an Error.
#pragma once

#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "common/base/result.h"

namespace facet {

// What a checkpoint holds cannot be served: kUnsupported, in just these words.
class ModelRefusal : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

Error torch_error(std::string_view what, const std::exception& error);  // keeps the first line

// Runs body(); it returns a Result or Status of its own. `what` begins the message.
template <class Body>
auto torch_guard(std::string_view what, Body&& body) -> std::invoke_result_t<Body> {
  try {
    return std::forward<Body>(body)();
  } catch (const ModelRefusal& refusal) {
    return Error(Code::kUnsupported, refusal.what());
  } catch (const std::bad_alloc&) {
    return Error(Code::kExhausted, std::string(what) + ": out of host memory");
  } catch (const std::exception& error) {
    return torch_error(what, error);
  }
}

}  // namespace facet
