#include "worker/model/weights.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "common/base/check.h"

namespace facet {
namespace {

float half_value(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16;
  const std::uint32_t exponent = bits >> 10 & 0x1fU;
  const std::uint32_t mantissa = bits & 0x3ffU;
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 0x1p-24F;
    return sign != 0 ? -value : value;
  }
  const std::uint32_t wide = exponent == 31 ? 255U : exponent + 112U;
  return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
}

void put(float value, float& to) {
  to = value;
}

void put(float value, Bf16& to) {
  to = to_bf16(value);
}

// The file's values may lie at any address.
template <class Stored, class T, class Widen>
void convert(const std::byte* from, std::int64_t count, T* to, Widen widen) {
  for (std::int64_t i = 0; i < count; ++i) {
    Stored stored;
    std::memcpy(&stored, from + i * static_cast<std::int64_t>(sizeof stored), sizeof stored);
    put(widen(stored), to[i]);
  }
}

template <class T>
void convert_values(TensorDtype dtype, const std::byte* from, std::int64_t count, T* to) {
  switch (dtype) {
    case TensorDtype::kF32:
      return convert<float>(from, count, to, [](float x) { return x; });
    case TensorDtype::kBf16:
      return convert<Bf16>(from, count, to, to_float);
    case TensorDtype::kF16:
      return convert<std::uint16_t>(from, count, to, half_value);
    default:
      FACET_CHECK_MSG(false, "bind_tensors lets only these through");
  }
}

std::int64_t rows_of(const TensorView& view) {
  return view.shape.front();
}

std::int64_t values_of(const TensorView& view) {
  return static_cast<std::int64_t>(view.bytes / dtype_bytes(view.dtype));
}

}  // namespace

template <class T>
void Linear<T>::copy_row(std::int64_t row, T* to) const {
  if (products == Products::kLibrary) {
    std::copy_n(weights + row * depth, depth, to);
    return;
  }
  const T* from = weights + row / kPanel * kPanel * depth + row % kPanel;
  for (std::int64_t i = 0; i < depth; ++i) to[i] = from[i * kPanel];
}

template <class T>
const TensorView& WeightLoader<T>::view(const std::string& name) const {
  const auto found = table_.find(name);
  FACET_CHECK_MSG(found != table_.end(), name.c_str());
  return *found->second;
}

// Values [first, first + count) of a tensor, in slices.
template <class T>
void WeightLoader<T>::read(const TensorView& view, std::int64_t first, std::int64_t count, T* to) {
  const auto item = static_cast<std::int64_t>(dtype_bytes(view.dtype));
  constexpr std::int64_t kSlice = kLoadingWindow / 8;  // values, of 4 bytes at most
  for (std::int64_t at = 0; at < count; at += kSlice) {
    const std::int64_t values = std::min(kSlice, count - at);
    const std::byte* from = view.data + (first + at) * item;
    convert_values(view.dtype, from, values, to + at);
    release_pages(from, static_cast<std::size_t>(values * item));
    tick_(WorkerPhase::kLoad);
  }
}

template <class T>
const T* WeightLoader<T>::read_all(Names names) {
  std::int64_t total = 0;
  for (const std::string& name : names) total += values_of(view(name));
  T* values = arena_.take<T>(total);
  T* to = values;
  for (const std::string& name : names) {
    const TensorView& tensor = view(name);
    read(tensor, 0, values_of(tensor), to);
    to += values_of(tensor);
  }
  return values;
}

template <class T>
Linear<T> WeightLoader<T>::linear(Names weights, Names biases) {
  Linear<T> linear;
  linear.products = products_;
  for (const std::string& name : weights) {
    const TensorView& tensor = view(name);
    linear.columns += rows_of(tensor);
    linear.depth = values_of(tensor) / rows_of(tensor);
  }
  if (biases.size() > 0) linear.bias = read_all(biases);
  if (products_ == Products::kLibrary) {
    linear.weights = read_all(weights);
    return linear;
  }
  T* panels = arena_.take<T>(padded_to_panel(linear.columns) * linear.depth);
  linear.weights = panels;
  rows_.resize(static_cast<std::size_t>(kPanel * linear.depth));
  std::int64_t column = 0;
  for (const std::string& name : weights) {
    const TensorView& tensor = view(name);
    for (std::int64_t row = 0; row < rows_of(tensor);) {
      const std::int64_t lane = column % kPanel;
      const std::int64_t count = std::min(kPanel - lane, rows_of(tensor) - row);
      read(tensor, row * linear.depth, count * linear.depth, rows_.data());
      T* panel = panels + column / kPanel * kPanel * linear.depth + lane;
      for (std::int64_t i = 0; i < linear.depth; ++i)
        for (std::int64_t r = 0; r < count; ++r)
          panel[i * kPanel + r] = rows_[static_cast<std::size_t>(r * linear.depth + i)];
      row += count;
      column += count;
    }
  }
  return linear;
}

template struct Linear<float>;
template struct Linear<Bf16>;
template class WeightLoader<float>;
template class WeightLoader<Bf16>;

}  // namespace facet
