#include "worker/service/broker_epoch.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>

namespace facet {

void BrokerEpoch::Unmap::operator()(const BrokerPage* page) const {
  munmap(const_cast<BrokerPage*>(page), sizeof(BrokerPage));
}

Result<BrokerEpoch> BrokerEpoch::map(int fd) {
  struct stat facts {};
  if (fstat(fd, &facts) != 0) return errno_error("broker page: fstat", errno);
  if (facts.st_size < static_cast<off_t>(sizeof(BrokerPage))) {
    return Error(Code::kIo, "broker page: " + std::to_string(facts.st_size) + " bytes, needs " +
                                std::to_string(sizeof(BrokerPage)));
  }
  void* memory = mmap(nullptr, sizeof(BrokerPage), PROT_READ, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return errno_error("broker page: mmap", errno);
  BrokerEpoch epoch(static_cast<const BrokerPage*>(memory));
  if (epoch.page_->magic.load(std::memory_order_acquire) != BrokerPage::kMagic) {
    return Error(Code::kIo, "broker page: no magic number");
  }
  return epoch;
}

}  // namespace facet
