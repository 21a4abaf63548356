#include "worker/echo/echo_hook.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <utility>

#include "common/base/check.h"

namespace facet {
namespace {

constexpr std::string_view kMark = "\x01" "crash:";
constexpr std::string_view kDriftMark = "\x01" "drift";

constexpr std::array<std::pair<std::string_view, EchoHookKind>, 8> kKinds = {{
    {"segv", EchoHookKind::kSegv},
    {"abort", EchoHookKind::kAbort},
    {"exit", EchoHookKind::kExit},
    {"kill", EchoHookKind::kKill},
    {"hang", EchoHookKind::kHang},
    {"engine", EchoHookKind::kEngine},
    {"fail", EchoHookKind::kFail},
    {"preempt", EchoHookKind::kPreempt},
}};

// Reads digits off the front of `text`.
bool take_number(std::string_view& text, std::uint32_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

// A write to a page without rights: a fault that no compiler or sanitizer can reason away.
void fault() {
  void* page = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  FACET_CHECK(page != MAP_FAILED);
  *static_cast<volatile char*>(page) = 1;
}

}  // namespace

std::optional<EchoHook> parse_echo_hook(std::string_view text) {
  const std::size_t mark = text.find(kMark);
  if (mark == std::string_view::npos) return std::nullopt;
  text.remove_prefix(mark + kMark.size());
  for (const auto& [name, kind] : kKinds) {
    if (!text.starts_with(name)) continue;
    text.remove_prefix(name.size());
    EchoHook hook{.kind = kind};
    if (!text.starts_with('@')) return std::nullopt;
    text.remove_prefix(1);
    if (!take_number(text, hook.position)) return std::nullopt;
    if (text.starts_with('x')) {
      text.remove_prefix(1);
      if (!take_number(text, hook.attempts)) return std::nullopt;
    }
    return hook;
  }
  return std::nullopt;
}

std::optional<EchoHook> find_echo_hook(const GenerateRequest& request) {
  for (const Message& message : request.messages) {
    for (const ContentPart& part : message.content) {
      if (auto hook = parse_echo_hook(part.text)) return hook;
    }
  }
  return std::nullopt;
}

std::optional<EchoHook> find_echo_hook(const ImageView& image) {
  constexpr std::uint64_t kLongest = 48;  // bytes; no hook is longer, with the largest numbers 36
  const std::uint64_t bytes = std::uint64_t{3} * image.width * image.height;
  const std::string_view text(reinterpret_cast<const char*>(image.pixels),
                              std::min(bytes, kLongest));
  return text.starts_with(kMark) ? parse_echo_hook(text) : std::nullopt;
}

bool has_drift_mark(const GenerateRequest& request) {
  for (const Message& message : request.messages) {
    for (const ContentPart& part : message.content) {
      if (part.text.find(kDriftMark) != std::string::npos) return true;
    }
  }
  return false;
}

void act_on_process(EchoHookKind kind) {
  switch (kind) {
    case EchoHookKind::kSegv: fault(); break;
    case EchoHookKind::kAbort: std::abort();
    case EchoHookKind::kExit: _exit(1);
    case EchoHookKind::kKill: kill(getpid(), SIGKILL); break;
    case EchoHookKind::kHang:
      while (true) pause();
    case EchoHookKind::kEngine:
    case EchoHookKind::kFail:
    case EchoHookKind::kPreempt: break;
  }
}

}  // namespace facet
