#include "common/shm/shared_region.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <string>

namespace facet {
namespace {

TEST(SharedRegion, TheReadOnlyDescriptorSeesWritesAndCannotWrite) {
  auto memory = create_shared_memory("test", 1 << 20);
  ASSERT_TRUE(memory.has_value()) << memory.error().message;
  auto writer = MappedRegion::map(memory->read_write.get(), MapAccess::kReadWrite);
  auto reader = MappedRegion::map(memory->read_only.get(), MapAccess::kReadOnly);
  ASSERT_TRUE(writer.has_value() && reader.has_value());
  ASSERT_EQ(reader->bytes().size(), 1u << 20);
  std::memcpy(writer->writable_bytes().data() + 5000, "facet", 5);
  EXPECT_EQ(std::memcmp(reader->bytes().data() + 5000, "facet", 5), 0);
  EXPECT_TRUE(reader->writable_bytes().empty());
  EXPECT_FALSE(MappedRegion::map(memory->read_only.get(), MapAccess::kReadWrite).has_value());
  EXPECT_NE(mprotect(const_cast<std::byte*>(reader->bytes().data()), 4096, PROT_READ | PROT_WRITE),
            0);
  EXPECT_NE(ftruncate(memory->read_only.get(), 10), 0);
}

TEST(SharedRegion, NothingHasANameAndTheModeForbidsReopening) {
  const auto count = [] {
    int facets = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/dev/shm")) {
      facets += entry.path().filename().string().rfind("facet-unnamed", 0) == 0;
    }
    return facets;
  };
  auto memory = create_shared_memory("unnamed", 65536);
  ASSERT_TRUE(memory.has_value());
  EXPECT_EQ(count(), 0);
  struct stat status {};
  ASSERT_EQ(fstat(memory->read_only.get(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0400u);
  EXPECT_EQ(status.st_nlink, 0u);
  EXPECT_GE(status.st_blocks * 512, 65536);  // really there
  EXPECT_EQ(fcntl(memory->read_write.get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

TEST(SharedRegion, TooMuchIsAnErrorWithTheNumber) {
  const auto memory = create_shared_memory("huge", 1ull << 55);
  ASSERT_FALSE(memory.has_value());
  EXPECT_NE(memory.error().message.find(std::to_string(1ull << 55)), std::string::npos);
  EXPECT_FALSE(create_shared_memory("none", 0).has_value());
}

TEST(SharedRegion, MapsARunAndRefusesOneBeyondTheEnd) {
  auto memory = create_shared_memory("run", 4 * 65536);
  ASSERT_TRUE(memory.has_value());
  auto run = MappedRegion::map(memory->read_write.get(), MapAccess::kReadWrite, 65536, 65536);
  ASSERT_TRUE(run.has_value());
  EXPECT_EQ(run->bytes().size(), 65536u);
  const int fd = memory->read_write.get();
  EXPECT_FALSE(MappedRegion::map(fd, MapAccess::kReadOnly, 4 * 65536).has_value());
  EXPECT_FALSE(MappedRegion::map(fd, MapAccess::kReadOnly, 65536, UINT64_MAX).has_value());
  EXPECT_FALSE(MappedRegion::map(-1, MapAccess::kReadOnly).has_value());
}

TEST(SharedRegion, ViewsAreCheckedWithoutOverflow) {
  std::byte bytes[100] = {};
  EXPECT_TRUE(view_of(bytes, 0, 100).has_value());
  EXPECT_TRUE(view_of(bytes, 100, 0).has_value());
  EXPECT_FALSE(view_of(bytes, 1, 100).has_value());
  EXPECT_FALSE(view_of(bytes, UINT64_MAX, 2).has_value());
  EXPECT_FALSE(view_of(bytes, 2, UINT64_MAX).has_value());
}

}  // namespace
}  // namespace facet
