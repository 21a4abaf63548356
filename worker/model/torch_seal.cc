#include "worker/model/torch_seal.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <atomic>
#include <mutex>

#include "common/base/check.h"

namespace facet {
namespace {

constexpr std::size_t kAlignment = 64;

// The workspace is used from front to back, and again from the front once nothing lives in it.
struct Workspace {
  std::mutex mutex;
  bool sealed = false;
  std::span<std::byte> memory;
  std::size_t used = 0;
  std::size_t live = 0;
};

Workspace& workspace() {
  static Workspace workspace;
  return workspace;
}

std::atomic<std::uint64_t> g_allocations{0};

c10::DeleterFnPtr g_free_elsewhere = nullptr;

// Frees memory of either kind: libtorch asks for one function that does.
void give_back(void* piece) {
  Workspace& space = workspace();
  {
    const std::scoped_lock lock(space.mutex);
    auto* byte = static_cast<std::byte*>(piece);
    if (space.live > 0 && byte >= space.memory.data() &&
        byte < space.memory.data() + space.memory.size()) {
      if (--space.live == 0) space.used = 0;
      return;
    }
  }
  g_free_elsewhere(piece);
}

class SealedAllocator final : public c10::Allocator {
 public:
  explicit SealedAllocator(c10::Allocator* inner) : inner_(inner) {}

  c10::DataPtr allocate(std::size_t bytes) override {
    Workspace& space = workspace();
    const std::scoped_lock lock(space.mutex);
    if (!space.sealed || bytes == 0) {
      g_allocations.fetch_add(1, std::memory_order_relaxed);
      return inner_->allocate(bytes);
    }
    const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (rounded > space.memory.size() - space.used) {
      g_allocations.fetch_add(1, std::memory_order_relaxed);
      TORCH_CHECK(false, "a tensor needs ", rounded, " bytes of the step's workspace, it has ",
                  space.memory.size() - space.used, " of ", space.memory.size());
    }
    void* piece = space.memory.data() + space.used;
    space.used += rounded;
    ++space.live;
    return {piece, piece, give_back, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return give_back; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    inner_->copy_data(to, from, bytes);
  }

 private:
  c10::Allocator* inner_;
};

}  // namespace

void install_torch_seal() {
  static SealedAllocator allocator(c10::GetCPUAllocator());
  static const bool kOnce = [] {
    g_free_elsewhere = c10::GetCPUAllocator()->raw_deleter();
    c10::SetCPUAllocator(&allocator, 255);  // above every other
    return true;
  }();
  (void)kOnce;
}

TorchSeal::TorchSeal(std::span<std::byte> memory) {
  Workspace& space = workspace();
  const std::scoped_lock lock(space.mutex);
  FACET_CHECK(!space.sealed);
  space.sealed = true;
  space.memory = memory;
}

TorchSeal::~TorchSeal() {
  Workspace& space = workspace();
  const std::scoped_lock lock(space.mutex);
  FACET_CHECK(space.live == 0);
  space.sealed = false;
}

std::uint64_t torch_allocations() {
  return g_allocations.load();
}

}  // namespace facet
