// Where exceptions of libtorch end: each call into it goes through torch_guard, which turns what is
// thrown into an Error.
#pragma once

#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "common/base/result.h"

namespace facet {

Error torch_error(std::string_view what, const std::exception& error);  // keeps the first line

// Runs body(); it returns a Result or Status of its own. `what` begins the message.
template <class Body>
auto torch_guard(std::string_view what, Body&& body) -> std::invoke_result_t<Body> {
  try {
    return std::forward<Body>(body)();
  } catch (const std::bad_alloc&) {
    return Error(Code::kExhausted, std::string(what) + ": out of host memory");
  } catch (const std::exception& error) {
    return torch_error(what, error);
  }
}

}  // namespace facet
