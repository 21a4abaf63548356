#include "worker/checkpoint/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "common/base/unique_fd.h"
#include "worker/checkpoint/json_fields.h"

namespace facet {
namespace {

using nlohmann::json;

// The reference implementation's own bound on the header.
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr std::size_t kMaxDims = 8;  // a Conv3d weight has 5

struct DtypeFacts {
  std::string_view name;
  std::size_t bytes;
};
constexpr std::array<DtypeFacts, 10> kDtypes{{{"F64", 8},
                                              {"F32", 4},
                                              {"F16", 2},
                                              {"BF16", 2},
                                              {"I64", 8},
                                              {"I32", 4},
                                              {"I16", 2},
                                              {"I8", 1},
                                              {"U8", 1},
                                              {"BOOL", 1}}};

std::optional<TensorDtype> parse_dtype(std::string_view name) {
  for (std::size_t i = 0; i < kDtypes.size(); ++i)
    if (kDtypes[i].name == name) return static_cast<TensorDtype>(i);
  return std::nullopt;
}

struct Extent {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

Result<Extent> parse_extent(const json& entry, const std::string& where, std::uint64_t data_bytes) {
  const auto offsets = entry.find("data_offsets");
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2 ||
      !(*offsets)[0].is_number_unsigned() || !(*offsets)[1].is_number_unsigned())
    return Error(Code::kCorrupt, where + ": data_offsets is not a pair of integers");
  const Extent extent{(*offsets)[0].get<std::uint64_t>(), (*offsets)[1].get<std::uint64_t>()};
  if (extent.begin > extent.end || extent.end > data_bytes)
    return Error(Code::kCorrupt, where + ": bytes " + std::to_string(extent.begin) + " to " +
                                     std::to_string(extent.end) + " lie outside the " +
                                     std::to_string(data_bytes) +
                                     " bytes of tensor data (truncated file?)");
  return extent;
}

Result<std::vector<std::int64_t>> parse_shape(const json& entry, const std::string& where) {
  const auto shape = entry.find("shape");
  if (shape == entry.end() || !shape->is_array() || shape->size() > kMaxDims)
    return Error(Code::kCorrupt, where + ": shape is not an array of at most " +
                                     std::to_string(kMaxDims) + " sizes");
  std::vector<std::int64_t> sizes;
  for (const json& size : *shape) {
    if (!size.is_number_unsigned() || size.get<std::uint64_t>() > (1ull << 40))
      return Error(Code::kCorrupt, where + ": shape holds " + short_text(size));
    sizes.push_back(size.get<std::int64_t>());
  }
  return sizes;
}

// Bytes of a dense tensor, or nothing when the product does not fit.
std::optional<std::uint64_t> dense_bytes(const std::vector<std::int64_t>& shape, std::size_t item) {
  std::uint64_t bytes = item;
  for (const std::int64_t size : shape)
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(size), &bytes))
      return std::nullopt;
  return bytes;
}

Result<TensorView> parse_tensor(const std::string& name, const json& entry, const std::byte* data,
                                std::uint64_t data_bytes, const std::string& path) {
  const std::string where = path + ": tensor " + short_name(name);
  if (!entry.is_object()) return Error(Code::kCorrupt, where + ": its entry is not an object");
  const auto dtype_entry = entry.find("dtype");
  if (dtype_entry == entry.end() || !dtype_entry->is_string())
    return Error(Code::kCorrupt, where + ": has no dtype");
  const auto dtype = parse_dtype(dtype_entry->get_ref<const std::string&>());
  if (!dtype)
    return Error(Code::kUnsupported, where + ": dtype " + short_text(*dtype_entry));
  TensorView view{name, *dtype, FACET_TRY(parse_shape(entry, where)), nullptr, 0};
  const Extent extent = FACET_TRY(parse_extent(entry, where, data_bytes));
  const auto bytes = dense_bytes(view.shape, dtype_bytes(*dtype));
  if (!bytes || *bytes != extent.end - extent.begin)
    return Error(Code::kCorrupt, where + ": shape " + shape_text(view.shape) + " of " +
                                     std::string(dtype_name(*dtype)) + " does not take the " +
                                     std::to_string(extent.end - extent.begin) + " bytes it has");
  view.data = data + extent.begin;
  view.bytes = extent.end - extent.begin;
  return view;
}

}  // namespace

std::string_view dtype_name(TensorDtype dtype) {
  return kDtypes[static_cast<std::size_t>(dtype)].name;
}

std::size_t dtype_bytes(TensorDtype dtype) {
  return kDtypes[static_cast<std::size_t>(dtype)].bytes;
}

// Rounded outwards at the front, inwards at the back: what is read from front to back goes as a
// whole, and a page that is needed again comes again.
void release_pages(const std::byte* data, std::size_t bytes) {
  constexpr std::uintptr_t kPage = 4096;
  const auto begin = reinterpret_cast<std::uintptr_t>(data) / kPage * kPage;
  const auto end = (reinterpret_cast<std::uintptr_t>(data) + bytes) / kPage * kPage;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (const std::int64_t size : shape)
    text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

SafetensorsFile::SafetensorsFile(SafetensorsFile&& other) noexcept {
  *this = std::move(other);
}

SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(base_, other.base_);
  std::swap(size_, other.size_);
  std::swap(tensors_, other.tensors_);
  return *this;
}

SafetensorsFile::~SafetensorsFile() {
  if (base_ != nullptr) ::munmap(const_cast<std::byte*>(base_), size_);
}

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  SafetensorsFile file;
  file.path_ = path;
  FACET_TRY_STATUS(file.map());
  FACET_TRY_STATUS(file.read_header());
  return file;
}

Status SafetensorsFile::map() {
  const UniqueFd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return errno_error("open " + path_, errno);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return errno_error("stat " + path_, errno);
  if (!S_ISREG(info.st_mode)) return Error(Code::kCorrupt, path_ + ": is not a regular file");
  if (info.st_size < 8)
    return Error(Code::kCorrupt, path_ + ": " + std::to_string(info.st_size) +
                                     " bytes are too few for a safetensors file");
  const auto size = static_cast<std::size_t>(info.st_size);
  void* base = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (base == MAP_FAILED) return errno_error("mmap " + path_, errno);
  // Read ahead of the reader, from front to back; see release_pages().
  ::madvise(base, size, MADV_SEQUENTIAL);
  base_ = static_cast<const std::byte*>(base);
  size_ = size;
  return {};
}

Status SafetensorsFile::read_header() {
  std::uint64_t header_bytes = 0;
  for (int i = 7; i >= 0; --i)
    header_bytes = header_bytes << 8 | std::to_integer<unsigned>(base_[i]);
  if (header_bytes > kMaxHeaderBytes || header_bytes > size_ - 8)
    return Error(Code::kCorrupt, path_ + ": header length " + std::to_string(header_bytes) +
                                     " does not fit the file's " + std::to_string(size_) +
                                     " bytes (truncated file?)");
  const std::string_view text(reinterpret_cast<const char*>(base_ + 8), header_bytes);
  const json header = FACET_TRY(parse_json_object(text, path_ + ": header", Repeated::kRefused));
  const std::byte* data = base_ + 8 + header_bytes;
  const std::uint64_t data_bytes = size_ - 8 - header_bytes;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    tensors_.push_back(FACET_TRY(parse_tensor(name, entry, data, data_bytes, path_)));
  }
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorView& a, const TensorView& b) {
    return a.data != b.data ? a.data < b.data : a.bytes < b.bytes;
  });
  const std::byte* end = data;
  for (const TensorView& tensor : tensors_) {
    if (tensor.data != end)
      return Error(Code::kCorrupt, path_ + ": tensor " + short_name(tensor.name) +
                                       (tensor.data < end ? " overlaps" : " leaves a hole after") +
                                       " the one before it");
    end = tensor.data + tensor.bytes;
  }
  if (end != data + data_bytes)
    return Error(Code::kCorrupt, path_ + ": " + std::to_string(data + data_bytes - end) +
                                     " bytes after the last tensor");
  return {};
}

}  // namespace facet
