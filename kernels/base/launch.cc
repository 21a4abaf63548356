#include "kernels/base/launch.h"

#include <array>
#include <atomic>
#include <mutex>

namespace facet::kernels {
namespace {

constexpr int kMaxDevices = 64;

DeviceFacts read_facts(int device) {
  const auto attribute = [device](cudaDeviceAttr which) {
    int value = 0;
    return cudaDeviceGetAttribute(&value, which, device) == cudaSuccess ? value : 0;
  };
  DeviceFacts facts;
  facts.capability = 10 * attribute(cudaDevAttrComputeCapabilityMajor) +
                     attribute(cudaDevAttrComputeCapabilityMinor);
  facts.num_sms = attribute(cudaDevAttrMultiProcessorCount);
  facts.shared_bytes = static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
  return facts;
}

}  // namespace

const DeviceFacts& device_facts() {
  static std::array<DeviceFacts, kMaxDevices> facts;
  static std::array<std::once_flag, kMaxDevices> read;
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess || device < 0 || device >= kMaxDevices) device = 0;
  const auto index = static_cast<std::size_t>(device);
  std::call_once(read[index], [&] { facts[index] = read_facts(device); });
  return facts[index];
}

}  // namespace facet::kernels
