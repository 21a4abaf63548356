// The door of facet-cuda.so.
#include "worker/model/cuda/gpu_list.h"
#include "worker/model/cuda_module.h"
#include "worker/model/qwen2_5_vl/cuda_plan.h"
#include "worker/model/qwen2_5_vl/cuda_runner.h"

extern "C" const facet::CudaModule* facet_cuda_module() {
  static const facet::CudaModule kModule{FACET_VERSION, facet::list_gpus, facet::gpu_free_memory,
                                         facet::plan_qwen_cuda, facet::make_qwen_cuda_runner};
  return &kModule;
}
