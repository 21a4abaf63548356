// Client: asks a Facet daemon for answers, many at once, from one thread.
//
// Requests go out by submit(); poll() sends, receives and returns what happened. What the network
// and the daemon do meanwhile is handled inside: images go out in chunks as the socket takes them,
// a refusal with a retry hint is tried again, 3 s of silence lead to a new connection on which
// every unfinished request goes on at its next token. A token is never returned twice; a gap or a
// repeat in what the daemon sends ends that request with kCorrupt.
//
// Not thread-safe; one Client per thread. Do not fork while one exists (ZeroMQ's rule).
#pragma once

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "common/base/clock.h"
#include "common/protocol/messages.h"

namespace facet {

// An encoded image (JPEG, PNG, WebP): a file, or bytes when `bytes` is set. A file is read while it
// is sent, chunk by chunk, and must not change until the request has ended.
struct ImageSource {
  std::string path;
  std::shared_ptr<const std::string> bytes;
};

// The end without a `done`: refused for good, an unreadable image, no sign of life from the daemon.
struct Failed {
  RequestId id;
  Error error;
};

// For the user's information: refused for now, sent again after wait_ms.
struct Retrying {
  RequestId id;
  Error error;
  std::uint32_t wait_ms = 0;
};

// Accepted may come again after a reconnection. Done or Failed is the last event of a request.
using ClientEvent = std::variant<Accepted, Tokens, Done, Failed, Retrying>;

struct ClientOptions {
  Nanos silence = 3 * kSecond;          // then a new connection; the broker speaks every second
  Nanos lost_after = 60 * kSecond;      // no sign of life this long: unfinished requests fail
  Nanos deserted_after = 15 * kSecond;  // the same, while nobody listens at the socket
  Nanos retry_for = 600 * kSecond;      // refusals with a hint are retried this long
  // Requests with large images that go as chunks all the same: the memory of a descriptor that is
  // used only once costs more than it saves.
  std::uint32_t chunks_first = 4;
};

class Client {
 public:
  // kNotFound: no such socket. kClosed: nobody listens. kInvalidArgument: the path is too long.
  static Result<Client> connect(const std::string& socket_path, ClientOptions options = {});

  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();  // unfinished requests go on in the daemon until they end or their deadline

  // Takes a request in; nothing is sent before poll(). A zero id is replaced by a random one,
  // num_images by the number of images. kInvalidArgument, kTooLarge: the request breaks a rule of
  // the protocol; the message names it.
  Result<RequestId> submit(GenerateRequest request, std::vector<ImageSource> images = {});

  // The request ends with Done (kCancelled), unless it has ended already.
  void cancel(const RequestId& id);

  // Returns as soon as there are events, at the latest after `timeout` (0: only what is there), and
  // early without events when a signal arrives.
  std::vector<ClientEvent> poll(Nanos timeout);

  // The daemon's state as one JSON object. Events of requests that come meanwhile are kept for
  // poll(). kTimeout: no answer.
  Result<std::string> status(Nanos timeout);

  std::size_t num_unfinished() const;

 private:
  struct State;
  explicit Client(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Plain AF_UNIX connect, then closed again: is somebody listening there?
Status check_socket(const std::string& socket_path);

// kClosed, in words: a daemon that was silent for so long is given up (lost_after, deserted_after).
Status check_silence(const ClientOptions& options, const std::string& socket_path, Nanos silent);

}  // namespace facet
