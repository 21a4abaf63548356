#include "worker/model/host_gemm_impl.h"
#include "worker/model/host_ops_impl.h"
#include "worker/model/host_ops_variants.h"

namespace facet {

const HostVariant kHostAvx512{&kOps<float>, &kOps<Bf16>, &kGemm<float>, &kGemm<Bf16>};

}  // namespace facet
