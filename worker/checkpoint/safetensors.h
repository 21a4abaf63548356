// One .safetensors file, mapped read-only. The header is checked in full when the file is opened,
// so that every view points at bytes of the mapping and has exactly the bytes its shape says.
// Format: u64 little-endian length of a JSON header, the header, the tensors' bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace facet {

enum class TensorDtype : std::uint8_t {
  kF64,
  kF32,
  kF16,
  kBf16,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool
};

std::string_view dtype_name(TensorDtype dtype);  // as safetensors spells it, e.g. "BF16"
std::size_t dtype_bytes(TensorDtype dtype);

struct TensorView {
  std::string name;
  TensorDtype dtype = TensorDtype::kF32;
  std::vector<std::int64_t> shape;
  const std::byte* data = nullptr;  // owned by the SafetensorsFile; any alignment
  std::size_t bytes = 0;
};

// File bytes that loading may keep in memory, besides what it makes of them.
inline constexpr std::int64_t kLoadingWindow = 16 << 20;

// Bytes of a SafetensorsFile's mapping that were read: their pages leave this process's memory.
// They stay readable, from the file. Never for other memory, whose content would be lost.
void release_pages(const std::byte* data, std::size_t bytes);

std::string shape_text(const std::vector<std::int64_t>& shape);  // "[2, 3]"

class SafetensorsFile {
 public:
  // kNotFound, kIo: the file; kCorrupt: its content, with what is wrong and where;
  // kUnsupported: a dtype that this build does not know.
  static Result<SafetensorsFile> open(const std::string& path);

  SafetensorsFile(SafetensorsFile&& other) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&& other) noexcept;
  ~SafetensorsFile();

  const std::string& path() const { return path_; }
  const std::vector<TensorView>& tensors() const { return tensors_; }  // by rising offset

 private:
  SafetensorsFile() = default;
  Status map();
  Status read_header();

  std::string path_;
  const std::byte* base_ = nullptr;
  std::size_t size_ = 0;
  std::vector<TensorView> tensors_;
};

}  // namespace facet
