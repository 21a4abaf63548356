// A .safetensors file: every view that comes out has exactly the bytes its shape says, inside of
// the file, and all of them together are all of its data.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <set>

#include "common/base/check.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/unit/checkpoint/safetensors_bytes.h"
#include "worker/checkpoint/safetensors.h"

namespace facet::fuzz {
namespace {

// A file in memory under a path, as long as this lives.
class MemoryFile {
 public:
  MemoryFile() : fd_(memfd_create("fuzz", MFD_CLOEXEC)) { FACET_CHECK(fd_ >= 0); }
  ~MemoryFile() { close(fd_); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }
  void write(std::string_view bytes) const {
    FACET_CHECK(ftruncate(fd_, 0) == 0);
    FACET_CHECK(pwrite(fd_, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  }

 private:
  int fd_;
};

// The header as this project would write it.
std::string rewritten(const SafetensorsFile& file) {
  nlohmann::json header = nlohmann::json::object();
  std::string data;
  for (const TensorView& tensor : file.tensors()) {
    const std::size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(tensor.data), tensor.bytes);
    header[tensor.name] = {{"dtype", dtype_name(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {begin, data.size()}}};
  }
  return safetensors_bytes(header.dump(), data);
}

void check_tensors(const SafetensorsFile& file, std::size_t file_bytes) {
  std::set<std::string> names;
  std::size_t sum = 0;
  const std::byte* end = nullptr;
  for (const TensorView& tensor : file.tensors()) {
    FACET_CHECK(names.insert(tensor.name).second);
    std::uint64_t bytes = dtype_bytes(tensor.dtype);
    for (const std::int64_t size : tensor.shape) {
      FACET_CHECK(size >= 0);
      FACET_CHECK(!__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(size), &bytes));
    }
    FACET_CHECK(bytes == tensor.bytes);
    FACET_CHECK_MSG(end == nullptr || tensor.data == end, "an overlap or a hole");
    end = tensor.data + tensor.bytes;
    sum += tensor.bytes;
    for (std::size_t i = 0; i < tensor.bytes; ++i) {  // the sanitizer says if it is not there
      static_cast<void>(*const_cast<volatile const std::byte*>(tensor.data + i));
    }
  }
  FACET_CHECK(sum + 8 <= file_bytes);
}

}  // namespace

std::vector<std::string> seeds() {
  const std::string data(16, 'x');
  return {safetensors_bytes(R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,2],)"
                            R"("data_offsets":[8,16]},"a":{"dtype":"F32","shape":[2],)"
                            R"("data_offsets":[0,8]}})",
                            data),
          safetensors_bytes(R"({"a":{"dtype":"U8","shape":[0,7],"data_offsets":[0,0]}})", ""),
          safetensors_bytes(R"({"a":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
                            R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                            data.substr(8)),
          safetensors_bytes("{}", ""), safetensors_bytes("{}   ", "")};
}

void run_one(std::string_view input) {
  static const MemoryFile given;
  static const MemoryFile written;
  given.write(input);
  const auto file = SafetensorsFile::open(given.path());
  if (!file) {
    const std::string place = given.path() + ": ";
    const std::string_view places[] = {place};
    return check_refusal(file.error(), 4096, places);
  }
  check_tensors(*file, input.size());
  written.write(rewritten(*file));
  const auto again = SafetensorsFile::open(written.path());
  FACET_CHECK_MSG(again, again.error().message.c_str());
  FACET_CHECK(again->tensors().size() == file->tensors().size());
  std::set<std::pair<std::string, std::string>> all;
  for (const TensorView& tensor : file->tensors()) {
    all.emplace(tensor.name, std::string(reinterpret_cast<const char*>(tensor.data), tensor.bytes));
  }
  for (const TensorView& tensor : again->tensors()) {
    FACET_CHECK(all.contains(
        {tensor.name, std::string(reinterpret_cast<const char*>(tensor.data), tensor.bytes)}));
  }
}

}  // namespace facet::fuzz
