// The messages of Facet's protocol as plain structs, parsed once at the edge.
// README.md beside this file is the wire schema; codec.h turns these into msgpack and back.
// Client -> broker: PutChunk, GenerateRequest, CancelRequest, StatusQuery.
// Broker -> client: Accepted, Refused, Tokens, Done, Keepalive, StatusReply.
// Worker <-> broker: Hello, Step -> Resume, StepAck, Dispatch, CancelSequence, Drain.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/request_id.h"
#include "common/base/result.h"

namespace facet {

inline constexpr std::uint32_t kProtocolVersion = 1;

// ---- what a client asks -------------------------------------------------------------------

struct ContentPart {
  enum class Kind : std::uint8_t { kText, kImage };
  Kind kind = Kind::kText;
  std::string text;         // UTF-8, when kText
  std::uint32_t image = 0;  // index of an image put under the same request id, when kImage;
                            // in reading order the parts name 0, 1, .. num_images - 1, each once
};

struct Message {
  std::string role;  // "system", "user", "assistant": the model's renderer refuses others by name
  std::vector<ContentPart> content;
};

// Logarithm of a token's probability, natural, as the model computed it: before penalties,
// temperature and filters.
struct TokenLogprob {
  std::int32_t token = 0;
  float logprob = 0.0F;
  bool operator==(const TokenLogprob&) const = default;
};

struct SamplingParams {
  std::uint32_t max_tokens = 0;  // 0 = the server's default (not on the wire then)
  std::uint32_t min_tokens = 0;  // no end-of-sequence token before this many
  double temperature = 0.0;      // 0 = greedy
  double top_p = 1.0;
  std::uint32_t top_k = 0;  // 0 = off
  double min_p = 0.0;
  double repetition_penalty = 0.0;  // 0 = what the checkpoint's generation_config says
  double presence_penalty = 0.0;
  double frequency_penalty = 0.0;
  std::uint64_t seed = 0;  // the same seed gives the same tokens on any worker and attempt
  std::vector<std::string> stop;
  bool ignore_eos = false;
  // Off, or how many of the most likely tokens are told with each token, and the token itself.
  std::optional<std::uint32_t> logprobs;

  // TokenLogprobs that go with one token of the answer.
  std::uint32_t logprobs_per_token() const { return logprobs ? 1 + *logprobs : 0; }
};

enum class Priority : std::uint8_t { kInteractive = 0, kBatch = 1 };

struct GenerateRequest {
  RequestId id;
  std::vector<Message> messages;
  std::uint32_t num_images = 0;
  SamplingParams sampling;
  Priority priority = Priority::kInteractive;
  std::uint32_t deadline_ms = 0;  // from acceptance; 0 = the server's default
  std::uint32_t next_index = 0;   // first token the client wants: > 0 when it comes back
};

struct PutChunk {
  RequestId id;
  std::uint32_t image = 0;
  std::uint64_t total_bytes = 0;
  std::uint64_t offset = 0;  // chunks of one image come in order
};

struct CancelRequest {
  RequestId id;
};

struct StatusQuery {};

// ---- what a client is told ----------------------------------------------------------------

struct Accepted {
  RequestId id;
  std::uint32_t queue_position = 0;          // requests ahead of it that no worker has yet
  std::uint32_t num_tokens = 0;              // tokens already committed (a client that came back)
  std::uint64_t epoch = 0;                   // the life of the broker that says so
  std::optional<std::uint32_t> eta_ms = {};  // until a worker begins with it; estimated, if at all
};

// Not accepted, nothing is kept. retry_after_ms > 0 where coming back can help.
struct Refused {
  RequestId id;
  Code code = Code::kInternal;
  std::string message;
  std::uint32_t retry_after_ms = 0;
};

struct Tokens {
  RequestId id;
  std::uint32_t index = 0;  // of the first token here
  std::vector<std::int32_t> token_ids;
  std::string text;  // whole UTF-8 characters; may lag behind the ids
  // For each token, where the request asks: the token's own, then the most likely ones, best first.
  std::vector<TokenLogprob> logprobs;
};

enum class FinishReason : std::uint8_t { kStop = 1, kLength = 2, kCancelled = 3, kError = 4 };

struct Usage {
  std::uint32_t prompt_tokens = 0;  // image tokens included
  std::uint32_t image_tokens = 0;
  std::uint32_t completion_tokens = 0;
  std::uint32_t cached_tokens = 0;  // of the prompt: not computed again, in the last attempt
};

struct Timings {               // milliseconds since acceptance, by the broker's clock
  double dispatched_ms = 0.0;  // of the last attempt
  double first_token_ms = 0.0;
  double total_ms = 0.0;
};

struct Done {
  RequestId id;
  FinishReason reason = FinishReason::kStop;
  std::string text;  // text after that of the last Tokens message (a held-back tail)
  Usage usage;
  std::uint32_t attempts = 0;
  Timings timings;
  Code code = Code::kInternal;  // when reason is kError
  std::string error;            // when reason is kError
};

struct Keepalive {
  std::uint64_t epoch = 0;  // not that of Accepted: this broker does not follow the request
};

struct StatusReply {
  std::string json;  // one JSON object
};

// ---- broker -> worker ---------------------------------------------------------------------

// Where an image's RGB8 pixels lie in the ring: rows of 3 * width bytes, no padding.
struct ImageDescriptor {
  std::uint32_t slot = 0;
  std::uint64_t generation = 0;
  std::uint64_t offset = 0;  // from the start of the ring's payload, multiple of the page size
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  std::uint64_t content_hash_high = 0;  // XXH3-128 of the encoded bytes
  std::uint64_t content_hash_low = 0;
};

// A dispatch as the broker says it: the request goes on encoded, as the ledger has it.
struct DispatchOrder {
  RequestId id;
  std::uint32_t attempt = 0;
  std::string body;               // encode_request_body()
  std::uint32_t max_tokens = 0;   // of `body`, or the default of the day it was accepted
  std::uint32_t deadline_ms = 0;  // what is left of it
  std::vector<ImageDescriptor> images;
  std::vector<std::int32_t> committed;  // tokens of earlier attempts: the answer goes on after them
};

// The same as the worker reads it.
struct Dispatch {
  std::uint32_t attempt = 0;
  GenerateRequest request;
  std::vector<ImageDescriptor> images;
  std::vector<std::int32_t> committed;
};

struct CancelSequence {
  RequestId id;
  std::uint32_t attempt = 0;
};

struct Drain {};

// The answer to a Hello, first on every connection: which of the held sequences go on, and from
// which token index their output is wanted. The worker drops those it does not name.
struct ResumePoint {
  RequestId id;
  std::uint32_t attempt = 0;
  std::uint32_t from = 0;
};
struct Resume {
  std::vector<ResumePoint> sequences;
};

// All that Step messages up to this number said is in the ledger: no broker will ask for it again.
struct StepAck {
  std::uint64_t step = 0;
};

// ---- worker -> broker ---------------------------------------------------------------------

struct HeldSequence {
  RequestId id;
  std::uint32_t attempt = 0;
  std::uint32_t num_tokens = 0;  // index of the next one, committed ones of the dispatch included
  bool reads_images = false;     // its pixels may still be read
  bool ended = false;            // only its output is still there
};

struct ModelFacts {
  std::string name;                          // directory name of the checkpoint
  std::string family;                        // "qwen2_5_vl", "echo"
  std::uint32_t max_model_len = 0;           // prompt + answer, tokens
  std::uint32_t max_images = 0;              // per request
  std::uint32_t max_token_text_bytes = 0;    // longest text one token can add
  std::uint32_t image_pixels_per_token = 0;  // 0 = a fixed count per image:
  std::uint32_t image_tokens_min = 0;        // bounds of one image's tokens
  std::uint32_t image_tokens_max = 0;
};

struct Hello {
  std::uint32_t worker = 0;  // index
  std::uint64_t incarnation = 0;
  std::uint32_t pid = 0;
  std::uint32_t credits = 0;  // unfinished dispatches it is willing to hold
  bool is_settled = false;    // all memory it will ever need is reserved
  ModelFacts model;
  std::vector<HeldSequence> held;  // empty unless it outlived a broker
};

// How a sequence ends on a worker. kPreempted and kRefused hand the request back or end it.
struct SequenceEnd {
  enum class Kind : std::uint8_t {
    kStop = 1,    // end-of-sequence token or stop string
    kLength = 2,  // max_tokens or the context's end
    kCancelled = 3,
    kError = 4,      // this request is wrong or failed alone: terminal
    kPreempted = 5,  // no room now: dispatch it again
  };
  Kind kind = Kind::kStop;
  std::string text;  // tail after the last token's text
  Code code = Code::kInternal;
  std::string message;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t image_tokens = 0;
  std::uint32_t cached_tokens = 0;  // of the prompt: not computed again
};

struct SequenceUpdate {
  RequestId id;
  std::uint32_t attempt = 0;
  std::uint32_t index = 0;  // of the first token here
  std::vector<std::int32_t> token_ids;
  std::vector<std::string> token_texts;  // same length: text each token added, whole characters
  std::vector<TokenLogprob> logprobs;    // as in Tokens
  bool images_released = false;          // the worker will not read this request's pixels again
  bool ended = false;
  SequenceEnd end;
};

// One message per engine step that changed anything, for all sequences that changed.
struct Step {
  std::uint64_t incarnation = 0;
  std::uint64_t step = 0;  // of a worker's Step messages: 1, 2, 3 .. over its whole life
  std::uint32_t num_running = 0;
  std::uint32_t kv_blocks_free = 0;
  std::uint32_t kv_blocks_total = 0;
  std::uint32_t kv_blocks_cached = 0;  // of the free ones: their content may be used again
  bool is_settled = false;             // as in Hello
  std::uint32_t idle_gap_ns = 0;       // of its device, between steps that follow at once
  std::vector<SequenceUpdate> updates;
};

}  // namespace facet
