// What a client may send, and the body of a request as the ledger keeps it.
#include <cmath>

#include "common/base/check.h"
#include "common/protocol/limits.h"
#include "common/protocol/text_check.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/there_and_back.h"
#include "tests/unit/protocol/samples.h"

namespace facet::fuzz {
namespace {

constexpr std::string_view kPlaces[] = {"message",   "v:",      "type:", "id:",    "image",
                                        "total:",    "offset:", "put:",  "params", "deadline_ms:",
                                        "priority:", "next:"};  // "message" is "messages[2].role"
                                                                // too

void check_params(const SamplingParams& p) {
  for (const double number : {p.temperature, p.top_p, p.min_p, p.repetition_penalty,
                              p.presence_penalty, p.frequency_penalty}) {
    FACET_CHECK(std::isfinite(number) && std::abs(number) <= 100.0);
  }
  FACET_CHECK(p.temperature >= 0.0 && p.top_p > 0.0 && p.top_p <= 1.0 && p.min_p >= 0.0);
  FACET_CHECK(p.min_p <= 1.0 && p.repetition_penalty >= 0.0 && p.stop.size() <= kMaxStops);
  FACET_CHECK(p.max_tokens == 0 || p.min_tokens <= p.max_tokens);
  for (const std::string& stop : p.stop) {
    FACET_CHECK(!stop.empty() && stop.size() <= kMaxStopBytes && is_utf8(stop));
  }
}

void check_request(const GenerateRequest& request) {
  FACET_CHECK(!request.messages.empty() && request.messages.size() <= kMaxMessages);
  std::uint32_t images = 0;
  for (const Message& message : request.messages) {
    FACET_CHECK(message.role.size() <= kMaxRoleBytes && is_utf8(message.role));
    FACET_CHECK(message.content.size() <= kMaxParts);
    for (const ContentPart& part : message.content) {
      if (part.kind == ContentPart::Kind::kImage) FACET_CHECK(part.image == images++);
      FACET_CHECK(is_utf8(part.text));
    }
  }
  FACET_CHECK(images == request.num_images && images <= kMaxImages);
  check_params(request.sampling);
  // The ledger's form, there and back.
  const std::string body = encode_request_body(request);
  const auto again = decode_request_body(body);
  FACET_CHECK_MSG(again, "a body that was written cannot be read");
  FACET_CHECK(encode_request_body(*again) == body);
}

RequestId id_of(const ClientMessage& message) {
  if (const auto* put = std::get_if<PutChunk>(&message)) return put->id;
  if (const auto* request = std::get_if<GenerateRequest>(&message)) return request->id;
  if (const auto* cancel = std::get_if<CancelRequest>(&message)) return cancel->id;
  return {};
}

void check_put(const PutChunk& put, std::size_t chunk_bytes) {
  FACET_CHECK(put.image < kMaxImages && put.total_bytes >= 1 && put.total_bytes <= kMaxImageBytes);
  FACET_CHECK(chunk_bytes > 0 && chunk_bytes <= kMaxChunkBytes);
  FACET_CHECK(put.offset <= put.total_bytes && chunk_bytes <= put.total_bytes - put.offset);
}

}  // namespace

std::vector<std::string> seeds() {
  const auto hello = samples::raw_generate(0, samples::hello_text, samples::no_params);
  std::vector<std::string> made = {encode_message(samples::generate()),
                                   encode_message(CancelRequest{samples::id()}),
                                   encode_message(StatusQuery{}), hello};
  for (std::string& message : made) message += '\0';  // no chunk
  made.push_back(encode_message(PutChunk{samples::id(), 1, 100, 0}) + '\x05');
  made.push_back(encode_request_body(samples::generate()) + '\0');
  return made;
}

// The last byte is the length of the chunk; 0: there is none.
void run_one(std::string_view input) {
  const std::uint8_t chunk_bytes = Dice(input).byte();
  const std::string chunk(chunk_bytes, 'x');
  std::optional<std::string_view> frame;
  if (chunk_bytes > 0) frame = chunk;

  if (const auto body = decode_request_body(input)) {
    check_request(*body);
  } else {
    check_refusal(body.error(), kMaxErrorBytes, kPlaces);
  }
  const auto salvaged = salvage_client_message(input);
  const auto found = find_request_id(input);
  FACET_CHECK(!found || !found->is_zero());
  FACET_CHECK(!salvaged || (found && id_of(*salvaged) == *found));
  const auto message = decode_client_message(input, frame);
  if (!message) return check_refusal(message.error(), kMaxErrorBytes, kPlaces);
  if (std::holds_alternative<StatusQuery>(*message)) return;
  // What was accepted has an id that everybody reads alike.
  FACET_CHECK(found && *found == id_of(*message));
  FACET_CHECK(salvaged && salvaged->index() == message->index());
  if (const auto* put = std::get_if<PutChunk>(&*message)) check_put(*put, chunk_bytes);
  if (const auto* request = std::get_if<GenerateRequest>(&*message)) check_request(*request);
  check_there_and_back(
      *message, [&frame](const std::string& bytes) { return decode_client_message(bytes, frame); });
}

}  // namespace facet::fuzz
