#include "worker/model/cuda_module.h"

#include <dlfcn.h>

#include <filesystem>
#include <string_view>

namespace facet {
namespace {

constexpr const char* kFileName = "facet-cuda.so";

Result<const CudaModule*> open_module() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return Error(Code::kIo, "/proc/self/exe: " + error.message());
  const std::string path = self.parent_path() / kFileName;
  if (!std::filesystem::exists(path, error))
    return Error(Code::kUnsupported, "this build has no GPU code (" + path + " is missing)");
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) return Error(Code::kUnsupported, dlerror());
  using Entry = const CudaModule* (*)();
  const auto entry = reinterpret_cast<Entry>(dlsym(library, "facet_cuda_module"));
  if (entry == nullptr) return Error(Code::kUnsupported, dlerror());
  const CudaModule* module = entry();
  if (std::string_view(module->version) != FACET_VERSION)
    return Error(Code::kUnsupported,
                 path + " is of version " + module->version + ", this program of " FACET_VERSION);
  return module;
}

}  // namespace

Result<const CudaModule*> load_cuda_module() {
  static const Result<const CudaModule*> kModule = open_module();
  return kModule;
}

}  // namespace facet
