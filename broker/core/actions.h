// What the broker's core wants done. The service executes a vector of actions in its order.
// Ring and ledger are already changed when a step returns: what a client is told is committed.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "broker/core/client_notice.h"
#include "common/control/packets.h"
#include "common/protocol/messages.h"

namespace facet {

struct SendClient {
  ClientToken client = 0;
  ClientNotice message;
};

struct SendDispatch {
  std::uint32_t worker = 0;
  std::uint64_t incarnation = 0;
  DispatchOrder dispatch;
};

struct SendCancel {
  std::uint32_t worker = 0;
  std::uint64_t incarnation = 0;
  CancelSequence cancel;
};

// The answer to a hello: before any other message to that worker.
struct SendResume {
  std::uint32_t worker = 0;
  std::uint64_t incarnation = 0;
  Resume resume;
};

struct SendAck {
  std::uint32_t worker = 0;
  std::uint64_t incarnation = 0;
  StepAck ack;
};

// The worker holds nothing, will get nothing more, and is to end with exit code 0.
struct SendDrain {
  std::uint32_t worker = 0;
  std::uint64_t incarnation = 0;
};

// To the decoder. When the socket is full the service keeps it until it is writable; when the
// decoder is gone the service forgets it (DecoderReaped covers it).
struct SendDecodeJob {
  DecodeJob job;
};

// Control packets to the supervisor.
struct KillWorker {
  std::uint32_t worker = 0;
  std::uint64_t incarnation = 0;
  std::string why;
};

struct KillDecoder {};  // a job is overdue

struct WorkerFirstStep {  // kWorkerFinishedStep
  std::uint32_t worker = 0;
  std::uint64_t incarnation = 0;
};

struct LogLine {
  enum class Level : std::uint8_t { kInfo, kWarn, kError };
  Level level = Level::kInfo;
  std::string text;
};

using Action = std::variant<SendClient, SendDispatch, SendCancel, SendResume, SendAck, SendDrain,
                            SendDecodeJob, KillWorker, KillDecoder, WorkerFirstStep, LogLine>;

}  // namespace facet
