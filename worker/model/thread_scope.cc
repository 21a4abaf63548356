#include "worker/model/thread_scope.h"

#include <omp.h>

namespace facet {
namespace {

// About 2 ms of one core: some hundred operations then cost a tenth of it in waking.
constexpr double kWorthSharing = 60e6;

}  // namespace

ThreadScope::ThreadScope(int threads) : before_(omp_get_max_threads()) {
  omp_set_num_threads(threads);
}

ThreadScope::~ThreadScope() {
  omp_set_num_threads(before_);
}

int threads_for(double multiplications, int threads) {
  return multiplications < kWorthSharing ? 1 : threads;
}

}  // namespace facet
