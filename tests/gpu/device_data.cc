#include "tests/gpu/device_data.h"

#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <utility>

namespace facet::kernels {
namespace {

float from_fp16(std::uint16_t bits) {
  const int sign = bits >> 15;
  const int exponent = bits >> 10 & 31;
  const int mantissa = bits & 1023;
  float value;
  if (exponent == 31)
    value = mantissa != 0 ? NAN : INFINITY;
  else if (exponent == 0)
    value = std::ldexp(static_cast<float>(mantissa), -24);
  else
    value = std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
  return sign != 0 ? -value : value;
}

}  // namespace

void check_cuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::printf("CUDA: %s failed: %s\n", what, cudaGetErrorString(error));
  std::exit(3);
}

DeviceBytes::DeviceBytes(std::size_t bytes) : bytes_(bytes) {
  check_cuda(cudaMalloc(&data_, bytes == 0 ? 1 : bytes), "allocation");
  poison();
}
DeviceBytes::DeviceBytes(DeviceBytes&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
DeviceBytes::~DeviceBytes() {
  if (data_ != nullptr) cudaFree(data_);
}
void DeviceBytes::poison() {
  check_cuda(cudaMemset(data_, 0xff, bytes_), "poison");
}
void DeviceBytes::zero() {
  check_cuda(cudaMemset(data_, 0, bytes_), "zero");
}

std::uint16_t to_bf16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if (std::isnan(x)) return 0x7fc0;
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

std::uint16_t to_fp16(float x) {
  // The nearest of all values with the sign; ties to the even one. Slow and plain.
  const std::uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const float size = std::abs(x);
  if (std::isnan(x)) return 0x7e00;
  if (size >= 65520.0F) return sign | 0x7c00;
  int exponent = size < 6.103515625e-5F ? -14 : std::ilogb(size);
  const float scaled = std::ldexp(size, 10 - exponent);  // exact
  const auto rounded = static_cast<int>(std::nearbyint(scaled));
  if (size < 6.103515625e-5F) return static_cast<std::uint16_t>(sign | rounded);
  return static_cast<std::uint16_t>(sign | (((exponent + 15) << 10) + (rounded - 1024)));
}

float from_bits(DType dtype, const void* data, std::size_t index) {
  if (dtype == DType::kFp32) return static_cast<const float*>(data)[index];
  const std::uint16_t bits = static_cast<const std::uint16_t*>(data)[index];
  if (dtype == DType::kFp16) return from_fp16(bits);
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

float round_to(DType dtype, float x) {
  if (dtype == DType::kFp32) return x;
  const std::uint16_t bits = dtype == DType::kFp16 ? to_fp16(x) : to_bf16(x);
  return from_bits(dtype, &bits, 0);
}

DeviceBytes upload(DType dtype, const std::vector<float>& values) {
  if (dtype == DType::kFp32) return upload_raw(values);
  std::vector<std::uint16_t> bits;
  bits.reserve(values.size());
  for (const float x : values) bits.push_back(dtype == DType::kFp16 ? to_fp16(x) : to_bf16(x));
  return upload_raw(bits);
}

std::vector<float> download(DType dtype, const DeviceBytes& from, std::size_t count) {
  const auto bytes = download_raw<char>(from, count * size_of(dtype));
  std::vector<float> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = from_bits(dtype, bytes.data(), i);
  return out;
}

std::uint32_t next_seed() {
  static std::uint32_t seed = [] {
    const char* given = std::getenv("FACET_TEST_SEED");
    const std::uint32_t first = given != nullptr
                                    ? static_cast<std::uint32_t>(std::strtoul(given, nullptr, 10))
                                    : std::random_device{}();
    std::printf("seed %u (FACET_TEST_SEED repeats it)\n", first);
    return first;
  }();
  return seed++;
}

std::vector<float> random_values(DType dtype, std::size_t count, float scale) {
  std::mt19937 random(next_seed());
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> values(count);
  for (float& value : values) value = round_to(dtype, normal(random));
  return values;
}

Tolerance one_ulp(DType dtype) {
  if (dtype == DType::kBf16) return {0.0079, 1e-5};
  if (dtype == DType::kFp16) return {0.00099, 1e-5};
  return {3e-6, 3e-6};
}

void expect_close(const std::string& what, const std::vector<float>& got,
                  const std::vector<double>& want, Tolerance tolerance) {
  ASSERT_EQ(got.size(), want.size()) << what;
  std::size_t bad = 0;
  std::size_t first_bad = 0;
  double worst = 0.0;
  double error = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double off = std::abs(got[i] - want[i]);
    error += off * off;
    norm += want[i] * want[i];
    if (off > worst) worst = off;
    if (off <= tolerance.absolute + tolerance.relative * std::abs(want[i])) continue;
    if (bad++ == 0) first_bad = i;
  }
  const double relative = norm > 0 ? std::sqrt(error / norm) : std::sqrt(error);
  std::printf("%-64s %9zu values, |error|/|want| %.2e, largest error %.2e: %s\n", what.c_str(),
              got.size(), relative, worst, bad == 0 ? "equal" : "DIFFER");
  EXPECT_EQ(bad, 0U) << what << ": first at " << first_bad << ": got " << got[first_bad]
                     << ", want " << want[first_bad];
}

void expect_same_bits(const std::string& what, const std::vector<float>& got,
                      const std::vector<float>& want) {
  ASSERT_EQ(got.size(), want.size()) << what;
  const bool same =
      got.empty() || std::memcmp(got.data(), want.data(), got.size() * sizeof(float)) == 0;
  std::printf("%-64s %9zu values: %s\n", what.c_str(), got.size(),
              same ? "same bits" : "BITS DIFFER");
  EXPECT_TRUE(same) << what;
}

std::string name_of(DType dtype) {
  if (dtype == DType::kBf16) return "bf16";
  return dtype == DType::kFp16 ? "fp16" : "fp32";
}

}  // namespace facet::kernels
