// The broker's end of the decoder's job socket. A new one comes with every decoder.
#pragma once

#include <deque>
#include <optional>

#include "common/base/unique_fd.h"
#include "common/control/packets.h"

namespace facet {

class DecoderChannel {
 public:
  void open(UniqueFd fd);  // a decoder has started; nothing is owed to the former one
  void close();            // it was reaped: unsent jobs are forgotten with it
  bool is_open() const { return static_cast<bool>(fd_); }
  int fd() const { return fd_.get(); }  // -1 when closed

  // Sends the job now or when there is room. Without a decoder it is forgotten: the core hears
  // of the decoder's end and asks again.
  void send(const DecodeJob& job);
  void flush();
  bool has_unsent() const { return !unsent_.empty(); }

  // A reply that is there already; never waits. Closes the channel at the decoder's end.
  std::optional<DecodeReply> receive();

 private:
  UniqueFd fd_;
  std::deque<DecodeJob> unsent_;  // at most CoreLimits::decode_jobs
};

}  // namespace facet
