#include "common/protocol/put_fd.h"

#include "common/protocol/codec.h"
#include "common/protocol/envelope.h"
#include "common/protocol/limits.h"

namespace facet {

using wire::MapReader;
using wire::Need;

Result<PutFd> decode_put_fd(std::string_view bytes) {
  const auto handle = FACET_TRY(wire::parse(bytes, {kMaxFdDatagramBytes, kMaxFdDatagramBytes}));
  std::optional<Error> error;
  MapReader map(handle.get(), {}, error);
  const std::string_view type = wire::read_envelope(map);
  PutFd put;
  if (type == "put_fd") {
    map.id("id", put.id);
    map.uint("image", put.image, Need::kRequired, kMaxImages - 1);
    map.uint("total", put.total_bytes, Need::kRequired, kMaxImageBytes, 1);
    map.boolean("taken", put.wants_taken, Need::kOptional);
  } else {
    wire::refuse_type(map, type);
  }
  if (error) return *std::move(error);
  return put;
}

Result<PutFdAnswer> decode_put_fd_answer(std::string_view bytes) {
  const auto handle = wire::parse(bytes, {kMaxFdDatagramBytes, kMaxFdDatagramBytes});
  if (!handle) return wire::as_corrupt(handle.error());
  std::optional<Error> error;
  MapReader map(handle->get(), {}, error);
  const std::string_view type = wire::read_envelope(map);
  if (type != "stored" && type != "taken") {
    auto message = FACET_TRY(decode_broker_message(bytes));
    if (auto* refused = std::get_if<Refused>(&message)) return PutFdAnswer(std::move(*refused));
    return Error(Code::kCorrupt, "not taken, stored or refused");
  }
  Stored stored;
  map.id("id", stored.id);
  map.uint("image", stored.image, Need::kRequired, kMaxImages - 1);
  if (error) return wire::as_corrupt(*error);
  if (type == "taken") return PutFdAnswer(Taken{stored.id, stored.image});
  return PutFdAnswer(stored);
}

std::string encode_message(const PutFd& put) {
  return wire::encode("put_fd", put.wants_taken ? 4 : 3, [&](wire::MapWriter& map) {
    map.id(put.id);
    map.uint("image", put.image);
    map.uint("total", put.total_bytes);
    if (put.wants_taken) map.boolean("taken", true);
  });
}

std::string encode_message(const Taken& taken) {
  return wire::encode("taken", 2, [&](wire::MapWriter& map) {
    map.id(taken.id);
    map.uint("image", taken.image);
  });
}

std::string encode_message(const Stored& stored) {
  return wire::encode("stored", 2, [&](wire::MapWriter& map) {
    map.id(stored.id);
    map.uint("image", stored.image);
  });
}

}  // namespace facet
