#include "worker/model/host_ops_impl.h"
#include "worker/model/host_ops_variants.h"

namespace facet {

const HostVariant kHostBase{&kOps<float>, &kOps<Bf16>, &kAttention<float>, &kAttention<Bf16>};

}  // namespace facet
