#include "broker/cli/doctor_checks.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "common/client/client.h"
#include "common/control/descriptor_needs.h"
#include "common/gpu/gpu_assignment.h"

namespace facet {
namespace {

constexpr int kOldestCuda = 13000;  // what libtorch 2.11 and the kernels are built for
constexpr double kBusyShare = 0.9;  // of a card's memory: less is free where others use it

std::string gigabytes(std::uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GB", static_cast<double>(bytes) / 1e9);
  return text;
}

void check_cpu(const HostFacts& facts, DoctorReport& report) {
  const auto has = [&](const char* flag) { return facts.cpu_flags.count(flag) > 0; };
  std::string units;
  for (const char* flag : {"avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16"})
    if (has(flag)) units += std::string(units.empty() ? "" : ", ") + flag;
  const std::string text = facts.cpu_name + ", " + std::to_string(facts.cores) + " cores, " +
                           (units.empty() ? "no AVX2" : units);
  if (!has("avx2") || !has("fma")) {
    report.warn("cpu", text, "a model on this CPU is slow; image decoding and GPUs do not mind");
  } else {
    report.ok("cpu", text);
  }
}

void check_shared_memory(const HostFacts& facts, const Config& config, DoctorReport& report) {
  const std::uint64_t needed =
      config.ring.ingest_bytes + config.ring.pixel_bytes + config.ledger.bytes;
  const std::string wish = "ring and ledger take " + gigabytes(needed);
  const std::string advice =
      "lower ring.pixel_bytes, ring.ingest_bytes or ledger.bytes, or free memory";
  if (needed > facts.memory_bytes) {
    report.fail("memory", wish + ", " + gigabytes(facts.memory_bytes) + " are available", advice);
    return;
  }
  report.ok("memory", gigabytes(facts.memory_bytes) + " available, " + wish);
  if (!facts.shm_bytes) {
    report.warn("shm", "no /dev/shm: they are made as anonymous files of memory instead", "");
  } else if (*facts.shm_bytes < needed) {
    report.warn("shm",
                "/dev/shm has " + gigabytes(*facts.shm_bytes) + " free, " + wish +
                    ": they are made as anonymous files of memory instead",
                "nothing, or a larger /dev/shm (docker run --shm-size), so that its limit counts");
  } else {
    report.ok("shm", "/dev/shm has " + gigabytes(*facts.shm_bytes) + " free");
  }
}

std::string limit_text(std::uint64_t limit) {
  return limit == ~std::uint64_t{0} ? "unlimited" : std::to_string(limit);
}

void check_limits(const HostFacts& facts, const Config& config, DoctorReport& report) {
  const auto needed = static_cast<std::uint64_t>(config.broker.max_clients + kReservedDescriptors);
  const std::string text =
      "at most " + limit_text(facts.max_files) + " open files, " + std::to_string(needed) +
      " are needed for broker.max_clients = " + std::to_string(config.broker.max_clients);
  if (facts.max_files < needed) {
    report.fail("descriptors", text,
                "raise the limit (ulimit -Hn, LimitNOFILE=) or lower max_clients");
  } else {
    report.ok("descriptors", text);
  }
  report.ok("memlock", "locked memory " + limit_text(facts.max_locked) +
                           "; Facet locks none, a GPU's driver does not count by it");
}

// Machine code of a capability runs on later ones of the same major number.
bool is_served(const HostGpu& gpu) {
  return gpu.major == 8 || gpu.major == 9;
}

void check_card(const HostGpu& gpu, const std::string& place, DoctorReport& report) {
  const std::string capability = std::to_string(gpu.major) + "." + std::to_string(gpu.minor);
  std::string text =
      place + ": " + gpu.name + ", " + gpu.uuid + ", compute capability " + capability + ", ";
  text += gpu.free_bytes > 0
              ? gigabytes(gpu.free_bytes) + " of " + gigabytes(gpu.total_bytes) + " free"
              : gigabytes(gpu.total_bytes);
  if (!is_served(gpu)) {
    report.fail("gpu", text,
                "the kernels are built for 8.0, 8.6, 8.9 and 9.0: leave this one out of "
                "worker.gpus or CUDA_VISIBLE_DEVICES");
  } else if (gpu.free_bytes > 0 && static_cast<double>(gpu.free_bytes) <
                                       kBusyShare * static_cast<double>(gpu.total_bytes)) {
    report.warn("gpu", text,
                "others use this card: a worker takes 92 % of what is free when it starts, or "
                "worker.device_max_memory");
  } else {
    report.ok("gpu", text);
  }
}

void check_driver(const HostGpus& host, DoctorReport& report) {
  const std::string text =
      "NVIDIA driver " +
      (host.driver_version.empty() ? "(version not told)" : host.driver_version) + ", CUDA " +
      cuda_version_text(host.cuda_version);
  if (host.cuda_version < kOldestCuda) {
    report.fail("driver", text, "CUDA 13.0 is needed: a driver of series 580 or later");
  } else {
    report.ok("driver", text);
  }
}

void check_folder(const std::string& folder, DoctorReport& report) {
  struct stat status {};
  if (lstat(folder.c_str(), &status) != 0) {
    std::filesystem::path parent = std::filesystem::path(folder).parent_path();
    std::error_code ignored;
    while (!std::filesystem::exists(parent, ignored) && parent.has_relative_path())
      parent = parent.parent_path();
    if (access(parent.c_str(), W_OK | X_OK) == 0) {
      report.ok("sockets", folder + " is made by facetd");
    } else {
      report.fail("sockets",
                  folder + " cannot be made: " + parent.string() + ": " + std::strerror(errno),
                  "name another broker.runtime_dir, or run as its owner");
    }
    return;
  }
  const std::string advice = "name another broker.runtime_dir, or: ";
  if (!S_ISDIR(status.st_mode)) {
    report.fail("sockets", folder + " is not a folder", advice + "remove it");
  } else if (status.st_uid != geteuid()) {
    report.fail("sockets",
                folder + " belongs to user " + std::to_string(status.st_uid) + ", not to " +
                    std::to_string(geteuid()),
                advice + "run as that user");
  } else if ((status.st_mode & 022) != 0) {
    report.fail("sockets", folder + " can be written to by others", advice + "chmod go-w it");
  } else {
    report.ok("sockets", folder + " can be used");
  }
}

}  // namespace

void check_host(const HostFacts& facts, const Config& config, DoctorReport& report) {
  check_cpu(facts, report);
  check_shared_memory(facts, config, report);
  check_limits(facts, config, report);
  if (facts.sandbox) {
    report.ok("sandbox", "seccomp filters work; user namespaces are not needed");
  } else {
    report.fail("sandbox", facts.sandbox.error().message + ": images cannot be decoded here",
                "allow seccomp filters: a kernel with CONFIG_SECCOMP_FILTER, a container profile "
                "that permits prctl(PR_SET_SECCOMP)");
  }
}

std::string check_gpus(const GpuFacts& facts, const WorkerConfig& worker, DoctorReport& report) {
  const bool is_wanted = !worker.gpus.empty();
  const bool is_echo = worker.engine == EngineKind::kEcho;
  if (!facts.has_driver || !facts.host) {
    if (is_wanted && !is_echo) {
      report.fail("gpu", "worker.gpus names GPUs, and this host has no NVIDIA driver",
                  "install it (/dev/nvidiactl is missing), or leave worker.gpus out");
    } else {
      report.ok("gpu", "no NVIDIA driver: models compute on the CPU");
    }
    return "";
  }
  const Result<HostGpus>& host = *facts.host;
  if (!host) {
    report.fail("driver", host.error().message,
                "nvidia-smi says more; CUDA_VISIBLE_DEVICES= (empty) computes on the CPU");
    return "";
  }
  check_driver(*host, report);
  const VisibleGpus visible = visible_gpus(host->gpus, facts.visible_devices);
  report.gpus = visible.gpus;
  for (std::size_t i = 0; i < visible.gpus.size(); ++i)
    check_card(visible.gpus[i], std::to_string(i), report);
  if (!visible.warning.empty()) {
    report.warn("gpu", visible.warning, "correct the variable");
  } else if (visible.num_hidden > 0) {
    report.ok("gpu", "CUDA_VISIBLE_DEVICES hides " + std::to_string(visible.num_hidden) +
                         " of the host's " + std::to_string(host->gpus.size()));
  }
  if (!facts.has_code) {
    const std::string text = "this build has no GPU code (facet-cuda.so is missing)";
    const std::string advice = "build where nvcc is found, or use a bundle that has it";
    if (is_wanted) report.fail("gpu", text, advice);
    if (!is_wanted && !visible.gpus.empty()) report.warn("gpu", text, advice);
    return "";
  }
  if (!needs_gpu_list(worker)) return visible.gpus.empty() ? "" : visible.gpus.front().uuid;
  const auto assigned = assign_gpus(worker, visible);
  if (!assigned) {
    report.fail("workers", assigned.error().message, "correct worker.* of the configuration");
    return "";
  }
  const std::size_t count = std::max<std::size_t>(1, assigned->size());
  report.ok("workers", std::to_string(count) + (count == 1 ? " worker" : " workers") +
                           (assigned->empty() ? " on the CPU" : ", one for each GPU"));
  return assigned->empty() ? "" : assigned->front();
}

void check_runtime_folder(const BrokerConfig& broker, DoctorReport& report) {
  check_folder(broker.runtime_dir, report);
  const auto holder = lock_holder(broker.runtime_dir + "/facetd.lock");
  if (check_socket(broker.socket)) {
    report.ok("daemon", "one serves at " + broker.socket +
                            (holder ? " (facetd is pid " + std::to_string(*holder) + ")" : ""));
  } else if (holder) {
    report.warn("daemon",
                "pid " + std::to_string(*holder) + " holds " + broker.runtime_dir +
                    " and does not answer at " + broker.socket,
                "it may be starting or ending; facet status, its log");
  } else {
    report.ok("daemon", "none runs at " + broker.socket);
  }
}

bool check_model_files(const std::string& directory, DoctorReport& report) {
  std::error_code error;
  std::uint64_t bytes = 0;
  int weights = 0;
  std::filesystem::directory_iterator entries(directory, error);
  if (error) {
    report.fail("model", directory + ": " + error.message(), "model.path names the folder");
    return false;
  }
  for (const auto& entry : entries) {
    const std::string path = entry.path();
    if (!path.ends_with(".json") && !path.ends_with(".safetensors")) continue;
    if (access(path.c_str(), R_OK) != 0) {
      report.fail("model", path + ": " + std::strerror(errno), "let the daemon's user read it");
      return false;
    }
    if (!path.ends_with(".safetensors")) continue;
    ++weights;
    bytes += std::filesystem::file_size(entry.path(), error);
  }
  if (weights == 0) {
    report.fail("model", directory + " holds no *.safetensors",
                "model.path names a Hugging Face directory as downloaded");
    return false;
  }
  report.ok("model", directory + ": " + std::to_string(weights) + " files of weights, " +
                         gigabytes(bytes) + ", readable");
  return true;
}

}  // namespace facet
