#include "common/gpu/driver_query.h"

#include <dlfcn.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace facet {
namespace {

// The driver's interface, as far as it is used here; its functions have C linkage and these types.
using DriverResult = int;
using Device = int;
constexpr DriverResult kSuccess = 0;
constexpr DriverResult kNoDevice = 100;
constexpr int kAttributeMajor = 75;  // of cuDeviceGetAttribute
constexpr int kAttributeMinor = 76;

struct Uuid {
  unsigned char bytes[16];
};

struct NvmlMemory {
  unsigned long long total;
  unsigned long long free;
  unsigned long long used;
};

template <typename Function>
Function* find(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

std::string uuid_text(const Uuid& uuid) {
  std::string text = "GPU-";
  for (std::size_t i = 0; i < sizeof uuid.bytes; ++i) {
    std::array<char, 3> digits{};
    std::snprintf(digits.data(), digits.size(), "%02x", uuid.bytes[i]);
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += digits.data();
  }
  return text;
}

class Driver {
 public:
  static Result<Driver> open(const char* path) {
    Driver driver;
    driver.library_ = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (driver.library_ == nullptr) return Error(Code::kUnsupported, dlerror());
    return driver;
  }

  Result<HostGpus> ask() {
    HostGpus answer;
    FACET_TRY_STATUS(call("cuDriverGetVersion", &answer.cuda_version));
    const auto init = find<DriverResult(unsigned)>(library_, "cuInit");
    if (init == nullptr) return Error(Code::kUnsupported, "the CUDA driver has no cuInit");
    const DriverResult initialized = init(0);
    if (initialized == kNoDevice) return answer;
    FACET_TRY_STATUS(check("cuInit", initialized));
    int count = 0;
    FACET_TRY_STATUS(call("cuDeviceGetCount", &count));
    for (int i = 0; i < count; ++i) answer.gpus.push_back(FACET_TRY(describe(i)));
    return answer;
  }

 private:
  Status check(const std::string& name, DriverResult result) {
    if (result == kSuccess) return {};
    const char* text = nullptr;
    const auto name_error =
        find<DriverResult(DriverResult, const char**)>(library_, "cuGetErrorString");
    if (name_error != nullptr) name_error(result, &text);
    return Error(Code::kUnsupported, "the CUDA driver: " + name + ": " +
                                         (text != nullptr ? text : std::to_string(result)));
  }

  template <typename... Arguments>
  Status call(const char* name, Arguments... arguments) {
    const auto function = find<DriverResult(Arguments...)>(library_, name);
    if (function == nullptr)
      return Error(Code::kUnsupported, std::string("the CUDA driver has no ") + name);
    return check(name, function(arguments...));
  }

  Result<HostGpu> describe(int index) {
    HostGpu gpu;
    Device device = 0;
    FACET_TRY_STATUS(call("cuDeviceGet", &device, index));
    std::array<char, 256> name{};
    FACET_TRY_STATUS(call("cuDeviceGetName", name.data(), static_cast<int>(name.size()), device));
    gpu.name = name.data();
    Uuid uuid{};
    FACET_TRY_STATUS(call("cuDeviceGetUuid", &uuid, device));
    gpu.uuid = uuid_text(uuid);
    FACET_TRY_STATUS(call("cuDeviceGetAttribute", &gpu.major, kAttributeMajor, device));
    FACET_TRY_STATUS(call("cuDeviceGetAttribute", &gpu.minor, kAttributeMinor, device));
    std::size_t total = 0;
    FACET_TRY_STATUS(call("cuDeviceTotalMem_v2", &total, device));
    gpu.total_bytes = total;
    return gpu;
  }

  void* library_ = nullptr;
};

// Free memory without a context of our own. What is missing stays unknown.
void ask_management(HostGpus& answer, void* library) {
  using Handle = void*;
  const auto init = find<int()>(library, "nvmlInit_v2");
  const auto version = find<int(char*, unsigned)>(library, "nvmlSystemGetDriverVersion");
  const auto by_uuid = find<int(const char*, Handle*)>(library, "nvmlDeviceGetHandleByUUID");
  const auto memory_of = find<int(Handle, NvmlMemory*)>(library, "nvmlDeviceGetMemoryInfo");
  if (init == nullptr || version == nullptr || by_uuid == nullptr || memory_of == nullptr) return;
  if (init() != kSuccess) return;
  std::array<char, 96> text{};
  if (version(text.data(), text.size()) == kSuccess) answer.driver_version = text.data();
  for (HostGpu& gpu : answer.gpus) {
    Handle handle = nullptr;
    NvmlMemory memory{};
    if (by_uuid(gpu.uuid.c_str(), &handle) == kSuccess && memory_of(handle, &memory) == kSuccess)
      gpu.free_bytes = memory.free;
  }
}

}  // namespace

Result<HostGpus> query_driver() {
  // All of them: what is hidden from CUDA is to be told, too.
  unsetenv("CUDA_VISIBLE_DEVICES");
  const char* given = std::getenv("FACET_CUDA_DRIVER");
  const std::string path = given != nullptr ? given : "libcuda.so.1";
  Driver driver = FACET_TRY(Driver::open(path.c_str()));
  HostGpus answer = FACET_TRY(driver.ask());
  void* management = dlopen(given != nullptr ? given : "libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (management != nullptr) ask_management(answer, management);
  return answer;
}

}  // namespace facet
