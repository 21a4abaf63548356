// Hooks with which a test makes the echo worker misbehave at a chosen token.
// A prompt that contains "\x01crash:KIND@POSITION" acts when the token at POSITION (0 = first) is
// due; "\x01crash:KIND@POSITIONxATTEMPTS" acts only in the first ATTEMPTS attempts.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "common/protocol/messages.h"
#include "worker/engine/engine.h"

namespace facet {

enum class EchoHookKind : std::uint8_t {
  kSegv,     // "segv": a real fault (si_code > 0)
  kAbort,    // "abort": std::abort()
  kExit,     // "exit": _exit(1)
  kKill,     // "kill": SIGKILL to itself, which looks like a kill from outside
  kHang,     // "hang": sleeps for ever without progress
  kEngine,   // "engine": the engine reports that it cannot go on
  kFail,     // "fail": this sequence alone ends with an error
  kPreempt,  // "preempt": this sequence is handed back
};

struct EchoHook {
  EchoHookKind kind = EchoHookKind::kFail;
  std::uint32_t position = 0;
  std::uint32_t attempts = UINT32_MAX;  // acts while attempt <= attempts
};

// The first hook in the text parts of the request. A malformed one is none.
std::optional<EchoHook> find_echo_hook(const GenerateRequest& request);
std::optional<EchoHook> parse_echo_hook(std::string_view text);

// The hook that an image's first pixels spell, byte by byte: an image that ends who looks at it.
std::optional<EchoHook> find_echo_hook(const ImageView& image);

// A prompt that contains "\x01drift" is answered differently in each attempt, as by a model whose
// arithmetic depends on the batch; the text ends with "#" and the attempt that ended it.
bool has_drift_mark(const GenerateRequest& request);

// Carries out a hook that ends or stops the process. Returns for kEngine, kFail and kPreempt.
void act_on_process(EchoHookKind kind);

}  // namespace facet
