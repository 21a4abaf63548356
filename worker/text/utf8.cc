#include "worker/text/utf8.h"

#include <cstring>

namespace facet {
namespace {

struct Lead {
  int num_bytes;
  std::uint8_t second_min, second_max;  // range of the second byte: no surrogates, no overlongs
};

// num_bytes 0: not a lead byte.
Lead classify(std::uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

Utf8Step read_utf8(std::string_view bytes) {
  using Kind = Utf8Step::Kind;
  const auto first = static_cast<std::uint8_t>(bytes[0]);
  const Lead lead = classify(first);
  if (lead.num_bytes == 0) return {Kind::kInvalid, 0, 1};
  if (lead.num_bytes == 1) return {Kind::kCharacter, first, 1};
  std::uint32_t code_point = first & (0x7Fu >> lead.num_bytes);
  for (int i = 1; i < lead.num_bytes; ++i) {
    const auto index = static_cast<std::size_t>(i);
    if (index >= bytes.size()) return {Kind::kIncomplete, 0, index};
    const auto byte = static_cast<std::uint8_t>(bytes[index]);
    const std::uint8_t low = i == 1 ? lead.second_min : 0x80;
    const std::uint8_t high = i == 1 ? lead.second_max : 0xBF;
    if (byte < low || byte > high) return {Kind::kInvalid, 0, index};
    code_point = code_point << 6 | (byte & 0x3Fu);
  }
  return {Kind::kCharacter, code_point, static_cast<std::size_t>(lead.num_bytes)};
}

void append_utf8(std::uint32_t code_point, std::string& out) {
  const auto put = [&out](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) return put(code_point);
  if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
  } else {
    if (code_point < 0x10000) {
      put(0xE0 | code_point >> 12);
    } else {
      put(0xF0 | code_point >> 18);
      put(0x80 | (code_point >> 12 & 0x3F));
    }
    put(0x80 | (code_point >> 6 & 0x3F));
  }
  put(0x80 | (code_point & 0x3F));
}

bool is_valid_utf8(std::string_view bytes) {
  std::size_t at = 0;
  while (at < bytes.size()) {
    std::uint64_t eight = 0;  // eight ASCII bytes at once
    while (at + 8 <= bytes.size()) {
      std::memcpy(&eight, bytes.data() + at, 8);
      if ((eight & 0x8080808080808080u) != 0) break;
      at += 8;
    }
    if (at == bytes.size()) break;
    const Utf8Step step = read_utf8(bytes.substr(at));
    if (step.kind != Utf8Step::Kind::kCharacter) return false;
    at += step.num_bytes;
  }
  return true;
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const Utf8Step step = read_utf8(bytes);
    const bool good = step.kind == Utf8Step::Kind::kCharacter;
    out.append(good ? bytes.substr(0, step.num_bytes) : kReplacementCharacter);
    bytes.remove_prefix(step.num_bytes);
  }
  return out;
}

}  // namespace facet
