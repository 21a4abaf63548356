// A table in a file that every process of a test maps: one entry for each point, found by name.
// tests/integration/crash_table.py is the other side and knows this layout.
#include "common/base/crash_point.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace facet {
namespace {

struct Entry {
  char name[64];                      // of the point, once `is_named`
  std::atomic<std::uint32_t> taken;   // 1: somebody writes or wrote the name
  std::atomic<std::uint32_t> is_named;
  std::atomic<std::uint64_t> hits;    // over all processes
  std::atomic<std::uint64_t> armed;   // number of the hit that waits; 0: none
  std::atomic<std::uint32_t> waiting;  // pid of the process that waits
  std::atomic<std::uint32_t> go;       // 1: it may go on, 2: it ends itself by abort()
};
static_assert(sizeof(Entry) == 96);
constexpr std::size_t kEntries = 128;

std::atomic<std::uint32_t> g_pid{0};

Entry* map_table() {
  const char* path = std::getenv("FACET_CRASH_POINTS");
  if (path == nullptr) return nullptr;
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return nullptr;
  void* memory =
      mmap(nullptr, kEntries * sizeof(Entry), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  pthread_atfork(nullptr, nullptr, [] { g_pid.store(0); });
  return memory == MAP_FAILED ? nullptr : static_cast<Entry*>(memory);
}

bool is_entry_of(Entry& entry, const char* name) {
  if (entry.taken.exchange(1) == 0) {
    std::strncpy(entry.name, name, sizeof entry.name - 1);
    entry.is_named.store(1, std::memory_order_release);
    return true;
  }
  while (entry.is_named.load(std::memory_order_acquire) == 0) {
  }
  return std::strcmp(entry.name, name) == 0;
}

}  // namespace

void crash_point(const char* name) {
  static Entry* const table = map_table();
  if (table == nullptr) return;
  if (g_pid.load() == 0) g_pid.store(static_cast<std::uint32_t>(getpid()));
  for (std::size_t i = 0; i < kEntries; ++i) {
    Entry& entry = table[i];
    if (!is_entry_of(entry, name)) continue;
    const std::uint64_t hit = entry.hits.fetch_add(1) + 1;
    if (hit != entry.armed.load()) return;
    entry.waiting.store(g_pid.load());
    while (entry.go.load(std::memory_order_acquire) == 0) {
    }
    if (entry.go.load() == 2) std::abort();
    return;
  }
}

}  // namespace facet
