#include "worker/model/torch_guard.h"

#include <c10/util/Exception.h>

namespace facet {

Error torch_error(std::string_view what, const std::exception& error) {
  std::string text = error.what();
  // c10::Error appends a stack trace to what(); the message alone is for people.
  if (const auto* torch = dynamic_cast<const c10::Error*>(&error))
    text = torch->what_without_backtrace();
  const bool memory =
      text.find("alloc") != std::string::npos && text.find("memory") != std::string::npos;
  return Error(memory ? Code::kExhausted : Code::kInternal,
               std::string(what) + ": " + text.substr(0, text.find('\n')));
}

}  // namespace facet
