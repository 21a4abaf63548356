// The rules of `facet doctor`: from what was seen to what is said. Pure but for files' own state.
#pragma once

#include <string>

#include "broker/cli/doctor_host.h"
#include "broker/cli/doctor_report.h"
#include "common/config/config.h"

namespace facet {

// CPU, memory, /dev/shm against ring and ledger, descriptors, sandbox.
void check_host(const HostFacts& facts, const Config& config, DoctorReport& report);

// Driver, each card, and which worker gets which. Returns the GPU of the first worker, or nothing
// where it computes on the CPU.
std::string check_gpus(const GpuFacts& facts, const WorkerConfig& worker, DoctorReport& report);

// The folder of the sockets, and whether a daemon is there already.
void check_runtime_folder(const BrokerConfig& broker, DoctorReport& report);

// Files of the model; false: it cannot be planned.
bool check_model_files(const std::string& directory, DoctorReport& report);

}  // namespace facet
