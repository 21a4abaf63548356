#include "broker/supervisor/broker_page_writer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace facet {

void BrokerPageWriter::Unmap::operator()(BrokerPage* page) const {
  munmap(page, sizeof(BrokerPage));
}

Result<BrokerPageWriter> BrokerPageWriter::create() {
  const UniqueFd fd(memfd_create("broker-page", MFD_CLOEXEC));
  if (!fd) return errno_error("memfd_create", errno);
  if (ftruncate(fd.get(), sizeof(BrokerPage)) != 0) return errno_error("ftruncate", errno);
  BrokerPageWriter writer;
  void* memory = mmap(nullptr, sizeof(BrokerPage), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) return errno_error("mmap of the broker's page", errno);
  writer.page_.reset(static_cast<BrokerPage*>(memory));
  const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  writer.read_only_.reset(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!writer.read_only_) return errno_error(path, errno);
  // A worker cannot open it anew for writing.
  if (fchmod(fd.get(), 0400) != 0) return errno_error("fchmod", errno);
  writer.page_->magic.store(BrokerPage::kMagic, std::memory_order_release);
  return writer;
}

void BrokerPageWriter::publish(std::uint64_t epoch) {
  page_->epoch.store(epoch, std::memory_order_seq_cst);
}

}  // namespace facet
