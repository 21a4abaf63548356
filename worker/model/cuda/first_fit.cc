#include "common/base/check.h"
#include "worker/model/cuda/torch_arena.h"

namespace facet {

FirstFit::FirstFit(std::byte* base, std::uint64_t bytes)
    : base_(base), size_(bytes / kAlignment * kAlignment) {
  gaps_[0] = size_;
}

void* FirstFit::allocate(std::uint64_t bytes) {
  const std::uint64_t needs = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  for (auto gap = gaps_.begin(); gap != gaps_.end(); ++gap) {
    const auto [offset, length] = *gap;
    if (length < needs) continue;
    gaps_.erase(gap);
    if (length > needs) gaps_[offset + needs] = length - needs;
    held_[offset] = needs;
    in_use_ += needs;
    most_in_use_ = in_use_ > most_in_use_ ? in_use_ : most_in_use_;
    return base_ + offset;
  }
  return nullptr;
}

void FirstFit::release(void* block) {
  const auto offset = static_cast<std::uint64_t>(static_cast<std::byte*>(block) - base_);
  const auto held = held_.find(offset);
  FACET_CHECK(held != held_.end());
  std::uint64_t begin = offset;
  std::uint64_t length = held->second;
  in_use_ -= length;
  held_.erase(held);
  auto next = gaps_.lower_bound(begin);
  if (next != gaps_.end() && next->first == begin + length) {
    length += next->second;
    next = gaps_.erase(next);
  }
  if (next != gaps_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == begin) {
      begin = before->first;
      length += before->second;
      gaps_.erase(before);
    }
  }
  gaps_[begin] = length;
}

std::uint64_t FirstFit::largest_gap() const {
  std::uint64_t largest = 0;
  for (const auto& [offset, length] : gaps_) largest = length > largest ? length : largest;
  return largest;
}

}  // namespace facet
