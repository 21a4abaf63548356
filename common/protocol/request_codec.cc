#include "common/protocol/request_codec.h"

#include <cstdio>

#include "common/protocol/codec.h"
#include "common/protocol/limits.h"
#include "common/protocol/wire_parse.h"

namespace facet {
namespace wire {
namespace {

void read_part(MapReader& map, ContentPart& part) {
  std::string_view kind;
  map.name("type", kind, Need::kRequired);
  if (map.failed()) return;
  if (kind == "text") {
    part.kind = ContentPart::Kind::kText;
    map.text("text", part.text, Need::kRequired, kMaxMapBytes);
  } else if (kind == "image") {
    part.kind = ContentPart::Kind::kImage;
    map.uint("image", part.image, Need::kRequired, kMaxImages - 1);
  } else {
    map.fail(Code::kInvalidArgument, "type", "must be \"text\" or \"image\"");
  }
}

void read_content(MapReader& map, Message& message) {
  const auto* content = map.any("content", Need::kRequired);
  if (content == nullptr) return;
  if (content->type == msgpack::type::STR) {
    map.text("content", message.content.emplace_back().text, Need::kRequired, kMaxMapBytes);
    return;
  }
  if (content->type != msgpack::type::ARRAY) {
    map.fail(Code::kInvalidArgument, "content", "must be a string or an array of parts");
    return;
  }
  const auto* parts = map.array("content", Need::kRequired, kMaxParts);
  if (parts == nullptr) return;
  const Path here{&map.path(), "content"};
  message.content.resize(parts->size);
  for (std::uint32_t i = 0; i < parts->size && !map.failed(); ++i) {
    MapReader part(parts->ptr[i], Path{&here, "", i}, map.error());
    read_part(part, message.content[i]);
  }
}

// Images are numbered in the order in which the messages show them, so that nothing downstream can
// pair a picture with the wrong place.
void check_images(MapReader& map, const GenerateRequest& request) {
  std::uint32_t next = 0;
  for (const Message& message : request.messages) {
    for (const ContentPart& part : message.content) {
      if (part.kind != ContentPart::Kind::kImage) continue;
      if (part.image >= request.num_images) {
        map.fail(Code::kInvalidArgument, "messages",
                 "image " + std::to_string(part.image) + " is named, but `images` is " +
                     std::to_string(request.num_images));
        return;
      }
      if (part.image != next++) {
        map.fail(Code::kInvalidArgument, "messages",
                 "image " + std::to_string(part.image) + " is named where image " +
                     std::to_string(next - 1) + " is due: parts name 0, 1, 2, .. in order");
        return;
      }
    }
  }
  if (next != request.num_images) {
    map.fail(Code::kInvalidArgument, "images",
             "is " + std::to_string(request.num_images) + ", but the messages name " +
                 std::to_string(next));
  }
}

void read_params(MapReader& map, SamplingParams& params) {
  constexpr auto kOptional = Need::kOptional;
  map.only({"max_tokens", "min_tokens", "temperature", "top_p", "top_k", "min_p",
            "repetition_penalty", "presence_penalty", "frequency_penalty", "seed", "stop",
            "ignore_eos", "logprobs"});
  map.uint("max_tokens", params.max_tokens, kOptional, UINT32_MAX, 1);
  map.uint("min_tokens", params.min_tokens, kOptional);
  map.number("temperature", params.temperature, kOptional, 0.0, kMaxTemperature);
  map.number("top_p", params.top_p, kOptional, kMinTopP, 1.0);
  map.uint("top_k", params.top_k, kOptional);
  map.number("min_p", params.min_p, kOptional, 0.0, 1.0);
  map.number("repetition_penalty", params.repetition_penalty, kOptional, 0.0, kMaxPenalty);
  if (params.repetition_penalty != 0.0 && params.repetition_penalty < kMinPenalty) {
    char text[80];
    std::snprintf(text, sizeof text, "%g is neither 0 nor between %g and %g",
                  params.repetition_penalty, kMinPenalty, kMaxPenalty);
    map.fail(Code::kInvalidArgument, "repetition_penalty", text);
  }
  map.number("presence_penalty", params.presence_penalty, kOptional, -kMaxAdditivePenalty,
             kMaxAdditivePenalty);
  map.number("frequency_penalty", params.frequency_penalty, kOptional, -kMaxAdditivePenalty,
             kMaxAdditivePenalty);
  map.uint("seed", params.seed, kOptional);
  map.texts("stop", params.stop, kOptional, kMaxStops, kMaxStopBytes);
  for (const std::string& stop : params.stop) {
    if (stop.empty())
      map.fail(Code::kInvalidArgument, "stop", "an empty string would stop at once");
  }
  map.boolean("ignore_eos", params.ignore_eos, kOptional);
  if (map.any("logprobs", kOptional) != nullptr)
    map.uint("logprobs", params.logprobs.emplace(), Need::kRequired, kMaxLogprobs);
  if (params.max_tokens != 0 && params.min_tokens > params.max_tokens) {
    map.fail(Code::kInvalidArgument, "min_tokens",
             std::to_string(params.min_tokens) + " exceeds max_tokens " +
                 std::to_string(params.max_tokens));
  }
}

std::uint32_t num_keys(const SamplingParams& params) {
  return 11 + (params.max_tokens != 0 ? 1 : 0) + (params.logprobs ? 1 : 0);
}

void write_params(MapWriter map, const SamplingParams& params) {
  if (params.max_tokens != 0) map.uint("max_tokens", params.max_tokens);
  map.uint("min_tokens", params.min_tokens);
  map.number("temperature", params.temperature);
  map.number("top_p", params.top_p);
  map.uint("top_k", params.top_k);
  map.number("min_p", params.min_p);
  map.number("repetition_penalty", params.repetition_penalty);
  map.number("presence_penalty", params.presence_penalty);
  map.number("frequency_penalty", params.frequency_penalty);
  map.uint("seed", params.seed);
  map.texts("stop", params.stop);
  map.boolean("ignore_eos", params.ignore_eos);
  if (params.logprobs) map.uint("logprobs", *params.logprobs);
}

void write_messages(MapWriter& request, const std::vector<Message>& messages) {
  request.array("messages", messages.size());
  for (const Message& message : messages) {
    MapWriter map = request.item(2);
    map.text("role", message.role);
    map.array("content", message.content.size());
    for (const ContentPart& part : message.content) {
      MapWriter inner = map.item(2);
      const bool is_text = part.kind == ContentPart::Kind::kText;
      inner.text("type", is_text ? "text" : "image");
      is_text ? inner.text("text", part.text) : inner.uint("image", part.image);
    }
  }
}

}  // namespace

void write_request_body(MapWriter& map, const GenerateRequest& request) {
  write_messages(map, request.messages);
  map.uint("images", request.num_images);
  write_params(map.map("params", num_keys(request.sampling)), request.sampling);
  map.uint("deadline_ms", request.deadline_ms);
  map.text("priority", request.priority == Priority::kBatch ? "batch" : "interactive");
}

void read_request_body(MapReader& map, GenerateRequest& request) {
  map.uint("images", request.num_images, Need::kOptional, kMaxImages);
  if (const auto* messages = map.array("messages", Need::kRequired, kMaxMessages)) {
    if (messages->size == 0) map.fail(Code::kInvalidArgument, "messages", "is empty");
    const Path here{&map.path(), "messages"};
    request.messages.resize(messages->size);
    for (std::uint32_t i = 0; i < messages->size && !map.failed(); ++i) {
      MapReader turn(messages->ptr[i], Path{&here, "", i}, map.error());
      turn.text("role", request.messages[i].role, Need::kRequired, kMaxRoleBytes);
      read_content(turn, request.messages[i]);
    }
  }
  if (!map.failed()) check_images(map, request);
  if (const auto* params = map.map("params", Need::kOptional)) {
    MapReader reader(*params, Path{&map.path(), "params"}, map.error());
    read_params(reader, request.sampling);
  }
  map.uint("deadline_ms", request.deadline_ms, Need::kOptional);
  std::string_view priority;
  map.name("priority", priority, Need::kOptional);
  if (priority == "batch") {
    request.priority = Priority::kBatch;
  } else if (!priority.empty() && priority != "interactive") {
    map.fail(Code::kInvalidArgument, "priority", "must be \"interactive\" or \"batch\"");
  }
}

}  // namespace wire

std::string encode_request_body(const GenerateRequest& request) {
  std::string bytes;
  wire::StringSink sink{bytes};
  wire::Packer pack(sink);
  wire::MapWriter map(pack, wire::kRequestBodyKeys);
  wire::write_request_body(map, request);
  return bytes;
}

Result<GenerateRequest> decode_request_body(std::string_view body) {
  const auto handle = FACET_TRY(wire::parse(body, {kMaxWorkerMapBytes, kMaxWorkerItems}));
  std::optional<Error> error;
  wire::MapReader map(handle.get(), {}, error);
  GenerateRequest request;
  wire::read_request_body(map, request);
  if (error) return *error;
  return request;
}

}  // namespace facet
