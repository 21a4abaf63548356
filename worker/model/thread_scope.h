// How many threads the next operations use.
#pragma once

namespace facet {

// libtorch, its matrix library and host_ops share OpenMP's number, which is per calling thread.
// Small steps run on one thread: waking another costs more than it computes, and a second thread
// that another process holds up stalls every operation.
class ThreadScope {
 public:
  explicit ThreadScope(int threads);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

// `threads` when there are enough multiplications to share, else 1.
int threads_for(double multiplications, int threads);

}  // namespace facet
