// Result<T>: a value or an Error, for the world's failures (peer, client, file, memory, time).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace facet {

// Few codes, each telling the caller what can be done. The numbers travel in messages: append only.
enum class Code : std::uint16_t {
  kInternal = 1,         // a defect on this side
  kInvalidArgument = 2,  // the request is wrong: do not repeat it
  kTooLarge = 3,         // exceeds a stated limit: do not repeat it
  kNotFound = 4,         // no such request, file or tensor
  kExhausted = 5,        // no room now: come back after the stated time
  kTimeout = 6,          // the deadline passed
  kCancelled = 7,        // the client asked for it
  kClosed = 8,           // the peer is gone or shutting down: come back later
  kStaleEpoch = 9,       // of an older incarnation, attempt or epoch: dropped and counted
  kCorrupt = 10,         // a peer broke the protocol or a file is damaged
  kIo = 11,              // the system call failed
  kQuarantined = 12,     // this request ended workers and is not tried again
  kUnsupported = 13,     // well-formed, but this build or model cannot do it
};

// Lower-case name as it stands in messages and logs, e.g. "invalid_argument".
std::string_view code_name(Code code);

struct Error {
  Code code = Code::kInternal;
  std::string message;
  const char* file = "";
  int line = 0;

  Error(Code error_code, std::string text, const char* at_file = __builtin_FILE(),
        int at_line = __builtin_LINE())
      : code(error_code), message(std::move(text)), file(at_file), line(at_line) {}
};

template <class T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using tl::expected<T, Error>::expected;
  // Not explicit: `return Error(...)` is how a function fails.
  Result(Error error)  // NOLINT(google-explicit-constructor)
      : tl::expected<T, Error>(tl::unexpect, std::move(error)) {}
};

using Status = Result<void>;

// "open /x/y: No such file or directory", with the code that fits errno (kNotFound, kIo, ...).
Error errno_error(std::string_view what, int error_number, const char* at_file = __builtin_FILE(),
                  int at_line = __builtin_LINE());

}  // namespace facet

// Yields the value or returns the error from the enclosing function.
#define FACET_TRY(expression)                               \
  __extension__({                                           \
    auto try_result_ = (expression);                        \
    if (!try_result_) return std::move(try_result_).error(); \
    *std::move(try_result_);                                \
  })

#define FACET_TRY_STATUS(expression)                          \
  do {                                                        \
    auto try_status_ = (expression);                          \
    if (!try_status_) return std::move(try_status_).error();  \
  } while (false)
