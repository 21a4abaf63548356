#include "broker/cli/doctor_host.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>

#include "common/gpu/visible_gpus.h"

namespace facet {
namespace {

void read_cpu(HostFacts& facts) {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line) && (facts.cpu_name.empty() || facts.cpu_flags.empty())) {
    const auto colon = line.find(": ");
    if (colon == std::string::npos) continue;
    if (line.starts_with("model name")) facts.cpu_name = line.substr(colon + 2);
    if (!line.starts_with("flags")) continue;
    std::istringstream words(line.substr(colon + 2));
    for (std::string word; words >> word;) facts.cpu_flags.insert(word);
  }
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) facts.cores = CPU_COUNT(&allowed);
}

std::uint64_t available_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  std::uint64_t kilobytes = 0;
  std::string rest;
  while (file >> key >> kilobytes) {
    if (key == "MemAvailable:") return kilobytes * 1024;
    std::getline(file, rest);
  }
  return 0;
}

std::uint64_t hard_limit(int which) {
  rlimit limit{};
  if (getrlimit(static_cast<__rlimit_resource>(which), &limit) != 0) return 0;
  return limit.rlim_max;
}

// A filter that allows everything: what may fail is to install one at all.
Status try_filter() {
  const pid_t child = fork();
  if (child < 0) return errno_error("fork", errno);
  if (child == 0) {
    sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const sock_fprog program{1, &allow};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0)
      _exit(errno == 0 ? EINVAL : errno);
    _exit(0);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return errno_error("seccomp filter", WIFEXITED(status) ? WEXITSTATUS(status) : ECHILD);
}

}  // namespace

HostFacts look_at_host() {
  HostFacts facts;
  read_cpu(facts);
  facts.memory_bytes = available_memory();
  struct statvfs shm {};
  if (statvfs("/dev/shm", &shm) == 0) facts.shm_bytes = shm.f_bavail * shm.f_frsize;
  facts.max_files = hard_limit(RLIMIT_NOFILE);
  facts.max_locked = hard_limit(RLIMIT_MEMLOCK);
  facts.sandbox = try_filter();
  return facts;
}

GpuFacts look_at_gpus(const std::string& program_folder) {
  GpuFacts facts;
  facts.has_driver = has_gpu_driver();
  facts.has_code = access((program_folder + "/facet-cuda.so").c_str(), R_OK) == 0;
  facts.visible_devices = cuda_visible_devices();
  if (facts.has_driver) facts.host = host_gpus();
  return facts;
}

// "1: FLOCK  ADVISORY  WRITE 4711 00:19:1234 0 EOF"; nothing is locked to find out.
std::optional<int> lock_holder(const std::string& path) {
  struct stat file {};
  if (stat(path.c_str(), &file) != 0) return std::nullopt;
  char wanted[64];
  std::snprintf(wanted, sizeof wanted, "%02x:%02x:%llu", major(file.st_dev), minor(file.st_dev),
                static_cast<unsigned long long>(file.st_ino));
  std::ifstream locks("/proc/locks");
  std::string line;
  while (std::getline(locks, line)) {
    std::istringstream fields(line);
    std::string number, kind, mode, access_kind, inode;
    int pid = 0;
    fields >> number >> kind >> mode >> access_kind >> pid >> inode;
    if (kind == "FLOCK" && inode == wanted) return pid;
  }
  return std::nullopt;
}

}  // namespace facet
