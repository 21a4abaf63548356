#include "worker/model/host_ops.h"

#include "worker/model/host_ops_variants.h"

namespace facet {
namespace {

const HostVariant& pick() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return kHostAvx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kHostAvx2;
#endif
  return kHostBase;
}

const HostVariant& variant() {
  static const HostVariant& kPicked = pick();
  return kPicked;
}

}  // namespace

template <>
const HostOps<float>& host_ops<float>() {
  return *variant().ops_fp32;
}
template <>
const HostOps<Bf16>& host_ops<Bf16>() {
  return *variant().ops_bf16;
}
template <>
const HostGemm<float>& host_gemm<float>() {
  return *variant().gemm_fp32;
}
template <>
const HostGemm<Bf16>& host_gemm<Bf16>() {
  return *variant().gemm_bf16;
}

}  // namespace facet
