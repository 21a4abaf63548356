#include "worker/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string>

#include "common/base/check.h"
#include "worker/text/regex_translation.h"
#include "worker/text/utf8.h"

namespace facet {
namespace {

constexpr std::uint32_t kMatchLimit = 10'000'000;      // backtracks of one match, as Oniguruma's
constexpr std::uint32_t kHeapLimitKib = 256 * 1024;    // interpreter, only after the JIT gave up
constexpr std::size_t kJitStackStart = 32 * 1024;
constexpr std::size_t kJitStackMax = 8 * 1024 * 1024;  // deep enough for runs of 1 MiB

std::string error_text(int error) {
  char text[256] = "";
  pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(text), sizeof text);
  return text;
}

}  // namespace

struct Regex::State {
  pcre2_code* code = nullptr;
  pcre2_match_data* match = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;

  ~State() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(match);
    pcre2_code_free(code);
  }
};

Regex::Regex(std::unique_ptr<State> state) : state_(std::move(state)) {}
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

Result<Regex> Regex::compile(std::string_view pattern) {
  const std::string translated = FACET_TRY(translate_oniguruma(pattern));
  return compile_pcre2(translated);
}

Result<Regex> Regex::compile_pcre2(std::string_view pattern) {
  auto state = std::make_unique<State>();
  int error = 0;
  std::size_t offset = 0;
  pcre2_compile_context* options = pcre2_compile_context_create(nullptr);
  FACET_CHECK(options != nullptr);
  pcre2_set_newline(options, PCRE2_NEWLINE_LF);  // "." stops at \n alone, as in Oniguruma
  state->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              PCRE2_UTF | PCRE2_UCP, &error, &offset, options);
  pcre2_compile_context_free(options);
  if (state->code == nullptr) {
    return Error(Code::kInvalidArgument, "regular expression \"" + std::string(pattern) +
                                             "\" at byte " + std::to_string(offset) + ": " +
                                             error_text(error));
  }
  pcre2_jit_compile(state->code, PCRE2_JIT_COMPLETE);  // without the JIT it only runs slower
  state->match = pcre2_match_data_create(1, nullptr);
  state->context = pcre2_match_context_create(nullptr);
  state->stack = pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr);
  FACET_CHECK(state->match != nullptr && state->context != nullptr);
  pcre2_set_match_limit(state->context, kMatchLimit);
  pcre2_set_heap_limit(state->context, kHeapLimitKib);
  pcre2_jit_stack_assign(state->context, nullptr, state->stack);
  return Regex(std::move(state));
}

Result<std::vector<ByteRange>> Regex::find_all(std::string_view text) const {
  std::vector<ByteRange> matches;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(state_->match);
  for (std::size_t at = 0; at <= text.size();) {
    int count = pcre2_match(state_->code, subject, text.size(), at, PCRE2_NO_UTF_CHECK,
                            state_->match, state_->context);
    if (count == PCRE2_ERROR_JIT_STACKLIMIT) {
      count = pcre2_match(state_->code, subject, text.size(), at,
                          PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, state_->match, state_->context);
    }
    if (count == PCRE2_ERROR_NOMATCH) break;
    if (count < 0) {
      return Error(Code::kTooLarge, "regular expression at byte " + std::to_string(at) + " of " +
                                        std::to_string(text.size()) + ": " + error_text(count));
    }
    const ByteRange found{range[0], range[1]};
    if (found.empty() && !matches.empty() && matches.back().end == found.begin) {
      if (found.end >= text.size()) break;
      at = found.end + read_utf8(text.substr(found.end)).num_bytes;
      continue;
    }
    matches.push_back(found);
    at = found.end;
  }
  return matches;
}

}  // namespace facet
