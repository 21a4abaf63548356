// libfacet_illegal_access.so, for LD_PRELOAD in the environment of a daemon under test: a
// facet-worker that gets SIGUSR2 runs a kernel on its GPU that writes to an unmapped address. It
// runs in the device's primary context, which is the worker's, so that every later CUDA call of the
// worker fails with the same error, as after a fault of a kernel of its own. In all other programs
// it does nothing. One line on standard error says what the driver answered.
#include <cuda.h>
#include <dlfcn.h>
#include <semaphore.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <thread>

// The kernel's machine code.
asm(".section .rodata\n"
    ".balign 16\n"
    "facet_fatbin: .incbin \"" FACET_FATBIN
    "\"\n"
    ".previous\n");
extern "C" __attribute__((visibility("hidden"))) const char facet_fatbin[];

namespace {

constexpr CUdeviceptr kNowhere = 0xdead'0000'0000;  // far from all that a process is given

sem_t g_strike;

template <class Function>
Function* driver(const char* name) {
  static void* library = dlopen("libcuda.so.1", RTLD_NOW);
  void* found = library == nullptr ? nullptr : dlsym(library, name);
  if (found == nullptr) std::fprintf(stderr, "illegal_access: the driver has no %s\n", name);
  return reinterpret_cast<Function*>(found);
}

// Calls a function of the driver by name.
template <class Function, class... Arguments>
CUresult call(const char* name, Arguments... arguments) {
  Function* function = driver<Function>(name);
  return function == nullptr ? CUDA_ERROR_NOT_FOUND : function(arguments...);
}

// The driver's answer; which is an error where it does what it is for.
CUresult touch_nothing() {
  CUdevice device = 0;
  CUcontext context = nullptr;
  CUmodule module = nullptr;
  CUfunction kernel = nullptr;
  CUdeviceptr nowhere = kNowhere;
  void* parameters[] = {&nowhere};
  CUresult result = call<decltype(cuInit)>("cuInit", 0u);
  if (result == CUDA_SUCCESS) result = call<decltype(cuDeviceGet)>("cuDeviceGet", &device, 0);
  if (result == CUDA_SUCCESS) {
    result = call<decltype(cuDevicePrimaryCtxRetain)>("cuDevicePrimaryCtxRetain", &context, device);
  }
  if (result == CUDA_SUCCESS) {
    result = call<decltype(cuCtxSetCurrent)>("cuCtxSetCurrent", context);
  }
  if (result == CUDA_SUCCESS) {
    result = call<decltype(cuModuleLoadData)>("cuModuleLoadData", &module,
                                              static_cast<const void*>(facet_fatbin));
  }
  if (result == CUDA_SUCCESS) {
    result = call<decltype(cuModuleGetFunction)>("cuModuleGetFunction", &kernel, module,
                                                 "facet_illegal_access");
  }
  if (result == CUDA_SUCCESS) {
    result = call<decltype(cuLaunchKernel)>("cuLaunchKernel", kernel, 1u, 1u, 1u, 1u, 1u, 1u, 0u,
                                            CUstream{}, static_cast<void**>(parameters),
                                            static_cast<void**>(nullptr));
  }
  if (result != CUDA_SUCCESS) return result;
  return call<decltype(cuCtxSynchronize)>("cuCtxSynchronize");
}

void wait_for_strikes() {
  for (;;) {
    while (sem_wait(&g_strike) != 0) {
    }
    std::fprintf(stderr, "illegal_access: process %d: CUDA error %d\n", getpid(),
                 static_cast<int>(touch_nothing()));
  }
}

bool is_worker() {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  if (length <= 0) return false;
  const std::string_view program(path, static_cast<std::size_t>(length));
  return program.substr(program.rfind('/') + 1) == "facet-worker";
}

__attribute__((constructor)) void prepare() {
  if (!is_worker()) return;
  sem_init(&g_strike, 0, 0);
  struct sigaction action {};
  action.sa_handler = [](int) { sem_post(&g_strike); };
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR2, &action, nullptr);
  sigset_t all, former;  // signals are for the worker's own threads
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &former);
  std::thread(wait_for_strikes).detach();
  pthread_sigmask(SIG_SETMASK, &former, nullptr);
}

}  // namespace
