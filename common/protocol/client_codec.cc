// Client -> broker.
#include <limits>

#include "common/protocol/codec.h"
#include "common/protocol/envelope.h"
#include "common/protocol/limits.h"
#include "common/protocol/request_codec.h"

namespace facet {
namespace {

using wire::MapReader;
using wire::Need;

PutChunk read_put(MapReader& map, std::optional<std::string_view> chunk) {
  PutChunk put;
  map.id("id", put.id);
  map.uint("image", put.image, Need::kRequired, kMaxImages - 1);
  map.uint("total", put.total_bytes, Need::kRequired, kMaxImageBytes, 1);
  map.uint("offset", put.offset, Need::kRequired, kMaxImageBytes);
  if (map.failed()) return put;
  if (!chunk || chunk->empty()) {
    map.fail(Code::kInvalidArgument, "", "put: the bytes of the chunk are missing (frame 1)");
  } else if (chunk->size() > kMaxChunkBytes) {
    map.fail(Code::kTooLarge, "",
             "put: a chunk of " + std::to_string(chunk->size()) + " bytes exceeds " +
                 std::to_string(kMaxChunkBytes));
  } else if (put.offset > put.total_bytes || chunk->size() > put.total_bytes - put.offset) {
    map.fail(Code::kInvalidArgument, "offset",
             std::to_string(put.offset) + " and a chunk of " + std::to_string(chunk->size()) +
                 " bytes exceed `total`, " + std::to_string(put.total_bytes));
  }
  return put;
}

GenerateRequest read_generate(MapReader& map) {
  GenerateRequest request;
  map.id("id", request.id);
  wire::read_request_body(map, request);
  map.uint("next", request.next_index, Need::kOptional);
  return request;
}

}  // namespace

Result<ClientMessage> decode_client_message(std::string_view bytes,
                                            std::optional<std::string_view> chunk) {
  const auto handle = FACET_TRY(wire::parse(bytes, {kMaxMapBytes, kMaxItems}));
  std::optional<Error> error;
  MapReader map(handle.get(), {}, error);
  const std::string_view type = wire::read_envelope(map);
  ClientMessage message = StatusQuery{};
  if (chunk && type != "put") map.fail(Code::kInvalidArgument, "", "only put has a second frame");
  if (type == "put") {
    message = read_put(map, chunk);
  } else if (type == "generate") {
    message = read_generate(map);
  } else if (type == "cancel") {
    CancelRequest cancel;
    map.id("id", cancel.id);
    message = cancel;
  } else if (type != "status") {
    wire::refuse_type(map, type);
  }
  if (error) return *std::move(error);
  return message;
}

std::optional<RequestId> find_request_id(std::string_view bytes) {
  const auto handle = wire::parse(bytes, {kMaxMapBytes, kMaxItems});
  if (!handle) return std::nullopt;
  std::optional<Error> error;
  MapReader map(handle->get(), {}, error);
  RequestId id;
  map.id("id", id);
  if (error) return std::nullopt;
  return id;
}

std::optional<ClientMessage> salvage_client_message(std::string_view bytes) {
  const auto handle = wire::parse(bytes, {kMaxMapBytes, kMaxItems});
  if (!handle) return std::nullopt;
  // Each value by a reader of its own: one that is wrong spoils no other.
  const auto read = [&](auto what) {
    std::optional<Error> error;
    MapReader map(handle->get(), {}, error);
    what(map);
    return !error;
  };
  RequestId id;
  std::string_view type;
  if (!read([&](MapReader& map) { map.id("id", id); })) return std::nullopt;
  if (!read([&](MapReader& map) { map.name("type", type, Need::kRequired); })) return std::nullopt;
  if (type == "cancel") return CancelRequest{id};
  if (type == "generate") {
    GenerateRequest request;
    request.id = id;
    return request;
  }
  if (type != "put") return std::nullopt;
  PutChunk put{id, 0, 0, 0};
  if (!read([&](MapReader& map) { map.uint("image", put.image, Need::kRequired); })) {
    put.image = std::numeric_limits<std::uint32_t>::max();
  }
  if (!read([&](MapReader& map) { map.uint("offset", put.offset, Need::kRequired); })) {
    put.offset = std::numeric_limits<std::uint64_t>::max();
  }
  return put;
}

std::string encode_message(const PutChunk& put) {
  return wire::encode("put", 4, [&](wire::MapWriter& map) {
    map.id(put.id);
    map.uint("image", put.image);
    map.uint("total", put.total_bytes);
    map.uint("offset", put.offset);
  });
}

std::string encode_message(const GenerateRequest& request) {
  return wire::encode("generate", wire::kRequestBodyKeys + 2, [&](wire::MapWriter& map) {
    map.id(request.id);
    wire::write_request_body(map, request);
    map.uint("next", request.next_index);
  });
}

std::string encode_message(const CancelRequest& cancel) {
  return wire::encode("cancel", 1, [&](wire::MapWriter& map) { map.id(cancel.id); });
}

std::string encode_message(const StatusQuery&) {
  return wire::encode("status", 0, [](wire::MapWriter&) {});
}

}  // namespace facet
