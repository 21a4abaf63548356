// A .safetensors file as the tests write it.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

namespace facet {

// The header's length in 8 bytes, the header (JSON), the data of all tensors.
inline std::string safetensors_bytes(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}

}  // namespace facet
