// The compiled variants that host_ops() picks from.
#pragma once

#include "worker/model/host_gemm.h"
#include "worker/model/host_ops.h"

namespace facet {

struct HostVariant {
  const HostOps<float>* ops_fp32;
  const HostOps<Bf16>* ops_bf16;
  const HostGemm<float>* gemm_fp32;
  const HostGemm<Bf16>* gemm_bf16;
};

extern const HostVariant kHostBase;  // every x86-64
extern const HostVariant kHostAvx2;
extern const HostVariant kHostAvx512;  // F, BW, DQ, VL

}  // namespace facet
