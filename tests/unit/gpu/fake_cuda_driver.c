/* Stands in for libcuda.so.1 and libnvidia-ml.so.1: lists what FACET_FAKE_GPUS says.
 *
 * "NAME=UUID_BYTE=MAJOR.MINOR=TOTAL=FREE;...": every byte of a GPU's UUID is the one given, in
 * decimal. FACET_FAKE_FAULT: "hang" (in cuInit), "crash", "error" (cuInit fails with 999). */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kMaxGpus = 16 };

struct gpu {
  char name[64];
  unsigned byte;
  int major, minor;
  unsigned long long total, free;
};

static struct gpu gpus[kMaxGpus];
static int num_gpus;

static int is_fault(const char* name) {
  const char* fault = getenv("FACET_FAKE_FAULT");
  return fault != NULL && strcmp(fault, name) == 0;
}

int cuDriverGetVersion(int* version) {
  *version = 13000;
  return 0;
}

int cuInit(unsigned flags) {
  (void)flags;
  while (is_fault("hang")) pause();
  if (is_fault("crash")) raise(SIGSEGV);
  if (is_fault("error")) return 999;
  const char* text = getenv("FACET_FAKE_GPUS");
  for (num_gpus = 0; text != NULL && *text != '\0' && num_gpus < kMaxGpus; ++num_gpus) {
    struct gpu* gpu = &gpus[num_gpus];
    if (sscanf(text, "%63[^=]=%u=%d.%d=%llu=%llu", gpu->name, &gpu->byte, &gpu->major, &gpu->minor,
               &gpu->total, &gpu->free) != 6)
      abort();
    const char* next = strchr(text, ';');
    text = next == NULL ? "" : next + 1;
  }
  /* As the driver says it where there is none. */
  return num_gpus == 0 || getenv("CUDA_VISIBLE_DEVICES") != NULL ? 100 : 0;
}

int cuGetErrorString(int error, const char** text) {
  *text = error == 999 ? "unknown error" : "some error";
  return 0;
}

int cuDeviceGetCount(int* count) {
  *count = num_gpus;
  return 0;
}

int cuDeviceGet(int* device, int index) {
  *device = index;
  return 0;
}

int cuDeviceGetName(char* name, int size, int device) {
  snprintf(name, (size_t)size, "%s", gpus[device].name);
  return 0;
}

int cuDeviceGetUuid(unsigned char* uuid, int device) {
  memset(uuid, (int)gpus[device].byte, 16);
  return 0;
}

int cuDeviceGetAttribute(int* value, int attribute, int device) {
  *value = attribute == 75 ? gpus[device].major : attribute == 76 ? gpus[device].minor : -1;
  return 0;
}

int cuDeviceTotalMem_v2(size_t* bytes, int device) {
  *bytes = gpus[device].total;
  return 0;
}

int nvmlInit_v2(void) { return 0; }

int nvmlSystemGetDriverVersion(char* text, unsigned size) {
  snprintf(text, size, "580.1.2");
  return 0;
}

int nvmlDeviceGetHandleByUUID(const char* uuid, void** handle) {
  for (int i = 0; i < num_gpus; ++i) {
    char digits[3];
    snprintf(digits, sizeof digits, "%02x", gpus[i].byte);
    if (strncmp(uuid, "GPU-", 4) == 0 && strncmp(uuid + 4, digits, 2) == 0) {
      *handle = &gpus[i];
      return 0;
    }
  }
  return 6;
}

int nvmlDeviceGetMemoryInfo(void* handle, unsigned long long* values) {
  const struct gpu* gpu = handle;
  values[0] = gpu->total;
  values[1] = gpu->free;
  values[2] = gpu->total - gpu->free;
  return 0;
}
