#include "broker/service/decoder_channel.h"

#include <sys/socket.h>

#include <cerrno>
#include <utility>

namespace facet {

void DecoderChannel::open(UniqueFd fd) {
  unsent_.clear();
  fd_ = std::move(fd);
}

void DecoderChannel::close() {
  unsent_.clear();
  fd_.reset();
}

void DecoderChannel::send(const DecodeJob& job) {
  if (!is_open()) return;
  unsent_.push_back(job);
  flush();
}

void DecoderChannel::flush() {
  while (is_open() && !unsent_.empty()) {
    const ssize_t size =
        ::send(fd_.get(), &unsent_.front(), sizeof(DecodeJob), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (size < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS)) return;
    unsent_.pop_front();  // sent, or the decoder is gone: receive() sees it
  }
}

std::optional<DecodeReply> DecoderChannel::receive() {
  while (is_open()) {
    DecodeReply reply;
    const ssize_t size = recv(fd_.get(), &reply, sizeof reply, MSG_DONTWAIT);
    if (size == sizeof reply) {
      reply.message[sizeof reply.message - 1] = '\0';
      return reply;
    }
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
    if (size <= 0) close();  // a packet of another size is ignored
  }
  return std::nullopt;
}

}  // namespace facet
