#include "worker/model/torch_seal.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <atomic>

namespace facet {
namespace {

std::atomic<int> g_seals{0};
std::atomic<std::uint64_t> g_allocations{0};

class SealedAllocator final : public c10::Allocator {
 public:
  explicit SealedAllocator(c10::Allocator* inner) : inner_(inner) {}

  c10::DataPtr allocate(std::size_t bytes) override {
    g_allocations.fetch_add(1, std::memory_order_relaxed);
    TORCH_CHECK(bytes == 0 || g_seals.load() == 0, "a step needs ", bytes,
                " bytes of memory that the plan did not reserve: it has 0");
    return inner_->allocate(bytes);
  }
  c10::DeleterFnPtr raw_deleter() const override { return inner_->raw_deleter(); }
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
    c10::SetCPUAllocator(&allocator, 255);  // above every other
    return true;
  }();
  (void)kOnce;
}

TorchSeal::TorchSeal() {
  g_seals.fetch_add(1);
}
TorchSeal::~TorchSeal() {
  g_seals.fetch_sub(1);
}

std::uint64_t torch_allocations() {
  return g_allocations.load();
}

}  // namespace facet
