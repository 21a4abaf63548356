// Images that come as a descriptor of a memfd, over a socket of their own (README.md: "Images as a
// descriptor"). One datagram of the client is a map and one descriptor; one datagram answers it.
#pragma once

#include <string>
#include <string_view>
#include <variant>

#include "common/protocol/messages.h"

namespace facet {

// The socket's path is the clients' with this behind it.
inline constexpr std::string_view kFdSocketSuffix = ".fd";
// A datagram either way: the map has six short keys, a refusal kMaxErrorBytes of text.
inline constexpr std::size_t kMaxFdDatagramBytes = 2048;

// Client -> broker, with the descriptor: its first `total_bytes` are the whole encoded image.
struct PutFd {
  RequestId id;
  std::uint32_t image = 0;
  std::uint64_t total_bytes = 0;
  bool wants_taken = false;
};

// Broker -> client, where it is wanted and the copy is not made at once: a generate that is sent
// from now on is read when the image is in.
struct Taken {
  RequestId id;
  std::uint32_t image = 0;
};

// Broker -> client: the image lies in the ring, or Refused. As many answers as datagrams, in order.
struct Stored {
  RequestId id;
  std::uint32_t image = 0;
};
using PutFdAnswer = std::variant<Taken, Stored, Refused>;

// Errors as of decode_client_message().
Result<PutFd> decode_put_fd(std::string_view map);
// kCorrupt: not an answer of a broker.
Result<PutFdAnswer> decode_put_fd_answer(std::string_view map);

std::string encode_message(const PutFd&);
std::string encode_message(const Taken&);
std::string encode_message(const Stored&);

}  // namespace facet
