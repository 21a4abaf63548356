// One life of a decoder child: one job, one answer, the end.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "broker/decoder/decode_image.h"
#include "broker/decoder/sandbox.h"
#include "common/base/result.h"
#include "common/control/packets.h"

namespace facet {

// Descriptors of a child: nothing else is open in it.
inline constexpr int kChildResultFd = 3;    // write end of a pipe; one ChildAnswer
inline constexpr int kChildLifelineFd = 4;  // kept open until the end, never used

struct ChildAnswer {
  std::uint32_t is_decoded = 0;
  char message[240] = {};
};

// Page multiples, sizes, bounds of the ring object, overlap. kCorrupt names what is wrong.
Status check_job(const DecodeJob& job, std::uint64_t ring_bytes);

struct ChildSetup {
  int ring_fd = -1;
  int read_only_ring_fd = -1;  // the same object, opened for reading alone
  int result_fd = -1;
  int lifeline_fd = -1;  // -1: none
  pid_t server = -1;     // ends at once when its parent is not this process
  SandboxLimits limits;
  const std::vector<sock_filter>* filter = nullptr;
  Decode* decode = decode_image;
};

// Runs in the forked child: closes, maps, locks itself in, decodes, answers, exits 0.
[[noreturn]] void run_decode_child(const DecodeJob& job, const ChildSetup& setup);

}  // namespace facet
