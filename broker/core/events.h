// What the broker's core is told. One event, one step.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "broker/core/client_notice.h"
#include "broker/core/core_limits.h"
#include "broker/core/seams.h"
#include "common/control/packets.h"
#include "common/protocol/messages.h"

namespace facet {

// ---- from clients --------------------------------------------------------------------------

// A chunk of an encoded image. `bytes` needs to live during the step only.
// `malformed`: the codec refused it, and the whole upload is refused. Of `chunk` only id, image and
// offset are told then; the largest number stands for what of them could not be read.
struct ClientPut {
  ClientToken client = 0;
  PutChunk chunk;
  std::string_view bytes;
  std::optional<Error> malformed = {};
  UserId user = 0;
  // A piece of an image that came as a descriptor: told Stored with its last piece, or refused.
  // Whichever comes first is the answer, and nothing more of the image follows.
  bool wants_answer = false;
};

// `body` is the request's canonical encoding with next_index 0: what the ledger keeps, what
// CoreSeams::parse_request() reads back, and what tells a repeated request from another one under
// the same id. `malformed`: the codec refused it, and of `request` only the id is told.
struct ClientGenerate {
  ClientToken client = 0;
  GenerateRequest request;
  std::string body;
  std::optional<Error> malformed = {};
  UserId user = 0;
};

struct ClientCancel {
  ClientToken client = 0;
  RequestId id;
};

// A message to this client could not be sent because its socket was full (EAGAIN). The service
// drops it, tells the core, and does the same with every later message to that client in the same
// vector of actions, in order. The core sends it again after ClientWritable or a timer.
struct ClientBlocked {
  ClientToken client = 0;
  ClientNotice unsent;
};

struct ClientWritable {
  ClientToken client = 0;
};

// The connection is gone: forget the token. Its requests go on; the client may come back under
// another token with the same ids.
struct ClientGone {
  ClientToken client = 0;
};

// ---- from workers and from the supervisor about them ------------------------------------------

// `epoch`, `worker`: from the connection, not from the message. What was meant for another life of
// the broker is dropped.
struct WorkerHello {
  Hello hello;
  std::uint64_t epoch = 0;
};

struct WorkerStep {
  std::uint32_t worker = 0;
  Step step;
  std::uint64_t epoch = 0;
};

// A message to the worker could not be sent (no such peer, or its socket was full): its link is
// broken, so it is ended and replaced.
struct WorkerUnreachable {
  std::uint32_t worker = 0;
  std::uint64_t incarnation = 0;
};

struct WorkerStarted {
  std::uint32_t worker = 0;
  std::uint64_t incarnation = 0;
  std::uint32_t pid = 0;
  bool may_hold = false;  // it served a former broker: Takeover only
};

struct WorkerDead {
  std::uint32_t worker = 0;
  std::uint64_t incarnation = 0;
  bool own_fault = false;
  std::int32_t exit_code = 0;
};

struct WorkerReaped {
  std::uint32_t worker = 0;
  std::uint64_t incarnation = 0;
};

struct WorkerDisabled {
  std::uint32_t worker = 0;
  std::int32_t exit_code = 0;
};

// What the supervisor tells a new broker before all else: who lives, and how the last ones died. A
// death of one that is not among the living is that of a process already reaped.
struct Takeover {
  std::vector<WorkerStarted> living;
  std::vector<WorkerDead> deaths;
};

// ---- the decoder -------------------------------------------------------------------------------

struct DecoderUp {};      // jobs can be sent
struct DecoderReaped {};  // it and every child of it are gone: its unanswered jobs too

struct DecoderReply {
  DecodeReply reply;
};

// ---- the rest ----------------------------------------------------------------------------------

struct WorkerDrain {  // it gets nothing new, and is told to end once it holds nothing
  std::uint32_t worker = 0;
  std::uint64_t incarnation = 0;
};

struct LimitsChanged {  // from now on; num_workers as it was
  CoreLimits limits;
  CoreSeams seams;
};

struct DrainStarted {};  // accept nothing new; done when BrokerCore::is_drained()
struct DrainEnded {};    // the drain is taken back
struct Paused {  // the broker itself did not run for so long (host suspended, process stopped)
  Nanos length = 0;
};
struct TimerTick {};     // next_deadline() has come

using Event =
    std::variant<ClientPut, ClientGenerate, ClientCancel, ClientBlocked, ClientWritable, ClientGone,
                 WorkerHello, WorkerStep, WorkerUnreachable, WorkerStarted, WorkerDead,
                 WorkerReaped, WorkerDisabled, WorkerDrain, DecoderUp, DecoderReaped, DecoderReply,
                 LimitsChanged, DrainStarted, DrainEnded, Paused, TimerTick>;

}  // namespace facet
