// The codec of the protocol: messages.h <-> msgpack. README.md beside this file is the schema.
// Decoding allocates in proportion to the frame, never to what a header claims; the frame's size,
// depth and number of values are checked before anything is built. It never throws and never
// aborts, whatever the bytes.
// Errors name the key and the limit, in at most kMaxErrorBytes of printable text.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "common/protocol/messages.h"

namespace facet {

using ClientMessage = std::variant<PutChunk, GenerateRequest, CancelRequest, StatusQuery>;
using BrokerMessage = std::variant<Accepted, Refused, Tokens, Done, Keepalive, StatusReply>;
using WorkerCommand = std::variant<Dispatch, CancelSequence, Drain, Resume, StepAck>;
using WorkerMessage = std::variant<Hello, Step>;

// Client -> broker. `map` is frame 0; `chunk` is frame 1 if there was one: `put` must have it,
// nothing else may. kInvalidArgument, kTooLarge (a limit of limits.h), kUnsupported (version,
// type).
Result<ClientMessage> decode_client_message(std::string_view map,
                                            std::optional<std::string_view> chunk = std::nullopt);

// The id in a map that decode_client_message() refused, so that the refusal can carry it.
// Nothing if there is no readable id.
std::optional<RequestId> find_request_id(std::string_view map);

// What can be read of a map that decode_client_message() refused, so that whoever keeps the upload
// under its id can drop it: the id of a generate, a cancel or a put; of a put its image and offset
// too, or the largest number for one that cannot be read. Nothing without a readable id and type.
std::optional<ClientMessage> salvage_client_message(std::string_view map);

// Broker -> client, broker -> worker, worker -> broker. A peer that sends what these refuse broke
// the protocol: the code is kCorrupt.
Result<BrokerMessage> decode_broker_message(std::string_view map);
Result<WorkerCommand> decode_worker_command(std::string_view map);
Result<WorkerMessage> decode_worker_message(std::string_view map);

std::string encode_message(const PutChunk&);  // frame 0; the chunk itself is frame 1
std::string encode_message(const GenerateRequest&);
std::string encode_message(const CancelRequest&);
std::string encode_message(const StatusQuery&);

std::string encode_message(const Accepted&);
std::string encode_message(const Refused&);  // texts of errors are cut to kMaxErrorBytes
std::string encode_message(const Tokens&);
std::string encode_message(const Done&);
std::string encode_message(const Keepalive&);
std::string encode_message(const StatusReply&);

// Into `bytes`, whose memory is used again: no dispatch waits for the allocator.
void encode_message(const DispatchOrder&, std::string& bytes);
std::string encode_message(const CancelSequence&);
std::string encode_message(const Drain&);
std::string encode_message(const Resume&);
std::string encode_message(const StepAck&);

std::string encode_message(const Hello&);
std::string encode_message(const Step&);

// The request without `id` and `next_index`, every key written, in one order: equal requests have
// equal bytes. Stands in the ledger; its hash tells a resubmission from another request.
std::string encode_request_body(const GenerateRequest&);

// Reads it back with the checks of decode_client_message(); `id` and `next_index` stay zero.
Result<GenerateRequest> decode_request_body(std::string_view body);

// "stop", "length", "cancelled", "error".
std::string_view finish_reason_name(FinishReason reason);

// The code with this name (code_name() reversed).
std::optional<Code> code_from_name(std::string_view name);

}  // namespace facet
