// Device memory for tests: typed uploads, poisoned outputs, and a comparison that NaN never passes.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/dtype.h"

namespace facet::kernels {

#define FACET_CUDA_OK(call) ASSERT_EQ(cudaSuccess, call) << cudaGetErrorString(cudaGetLastError())

// Aborts the program where memory or a copy fails: no test can go on then.
void check_cuda(cudaError_t error, const char* what);

class DeviceBytes {
 public:
  explicit DeviceBytes(std::size_t bytes);
  DeviceBytes(DeviceBytes&& other) noexcept;
  DeviceBytes& operator=(DeviceBytes&&) = delete;
  ~DeviceBytes();
  void* get() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  void poison();  // every byte 0xff: NaN in every floating type, -1 in every integer
  void zero();

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

std::uint16_t to_bf16(float x);  // to nearest even
std::uint16_t to_fp16(float x);
float from_bits(DType dtype, const void* data, std::size_t index);
float round_to(DType dtype, float x);

// Values rounded to dtype, as the device sees them.
DeviceBytes upload(DType dtype, const std::vector<float>& values);
std::vector<float> download(DType dtype, const DeviceBytes& from, std::size_t count);

template <class T>
DeviceBytes upload_raw(const std::vector<T>& values) {
  DeviceBytes out(values.size() * sizeof(T));
  check_cuda(
      cudaMemcpy(out.get(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
      "copy to the device");
  return out;
}
template <class T>
std::vector<T> download_raw(const DeviceBytes& from, std::size_t count) {
  std::vector<T> out(count);
  check_cuda(cudaMemcpy(out.data(), from.get(), count * sizeof(T), cudaMemcpyDeviceToHost),
             "copy from the device");
  return out;
}

// Normal values of the given scale, rounded to dtype; a seed of its own for each call, printed
// once.
std::vector<float> random_values(DType dtype, std::size_t count, float scale = 1.0F);
std::uint32_t next_seed();

struct Tolerance {
  double relative;
  double absolute;
};
// One unit in the last place of the type and a little.
Tolerance one_ulp(DType dtype);

// Prints what was compared and how far it is off; fails where |got - want| is above the tolerance
// or either is not a number.
void expect_close(const std::string& what, const std::vector<float>& got,
                  const std::vector<double>& want, Tolerance tolerance);
void expect_same_bits(const std::string& what, const std::vector<float>& got,
                      const std::vector<float>& want);

std::string name_of(DType dtype);

}  // namespace facet::kernels
