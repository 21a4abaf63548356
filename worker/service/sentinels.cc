#include "worker/service/sentinels.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <string>

namespace facet {
namespace {

constexpr std::size_t kStackBytes = 256 << 10;  // room for the thread-local data of libraries
constexpr int kNotYet = -1;

struct Post {
  int fd = -1;
  std::atomic<int> outcome{kNotYet};  // 0, or the errno of a failure
};

void report(Post& post, int outcome) {
  post.outcome.store(outcome, std::memory_order_release);
  post.outcome.notify_one();
}

void* stand_sentinel(void* argument) {
  Post& post = *static_cast<Post*>(argument);
  const auto fd = static_cast<unsigned>(post.fd);
  if (close_range(fd + 1, ~0u, CLOSE_RANGE_UNSHARE) != 0) {
    report(post, errno);
    return nullptr;
  }
  close_range(0, fd - 1, 0);
  report(post, 0);  // `post` may be gone from here on
  while (true) pause();
}

// Signals are for the threads that work.
int start_thread(Post& post) {
  sigset_t all, former;
  sigfillset(&all);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_sigmask(SIG_SETMASK, &all, &former);
  pthread_t thread;
  const int error = pthread_create(&thread, &attributes, stand_sentinel, &post);
  pthread_sigmask(SIG_SETMASK, &former, nullptr);
  pthread_attr_destroy(&attributes);
  return error;
}

}  // namespace

Status start_sentinels(std::span<const int> pipe_fds) {
  for (const int fd : pipe_fds) {
    if (fcntl(fd, F_GETFD) < 0) {
      return errno_error("sentinel descriptor " + std::to_string(fd), errno);
    }
    Post post;
    post.fd = fd;
    if (const int error = start_thread(post); error != 0) return errno_error("sentinel", error);
    post.outcome.wait(kNotYet, std::memory_order_acquire);
    if (const int error = post.outcome.load(std::memory_order_acquire); error != 0) {
      return Error(Code::kUnsupported, errno_error("close_range", error).message);
    }
    close(fd);
  }
  return {};
}

}  // namespace facet
