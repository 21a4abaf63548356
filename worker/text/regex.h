// Regular expressions on UTF-8 text: the one place that knows PCRE2.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace facet {

struct ByteRange {
  std::size_t begin = 0, end = 0;

  bool empty() const { return begin == end; }
  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

// One compiled expression. Holds its match workspace: one call at a time.
class Regex {
 public:
  // `pattern` in Oniguruma's syntax, within the bounds of translate_oniguruma().
  static Result<Regex> compile(std::string_view pattern);
  // `pattern` in PCRE2's own syntax.
  static Result<Regex> compile_pcre2(std::string_view pattern);

  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  // All matches of valid UTF-8 from left to right, without overlap. An empty match right after
  // another match is skipped. kTooLarge when an expression needs more than the limits of regex.cc.
  Result<std::vector<ByteRange>> find_all(std::string_view text) const;

 private:
  struct State;
  explicit Regex(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace facet
