#include "kernels/base/tensor_map.h"

namespace facet::kernels {
namespace {

using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                            const cuuint64_t*, const cuuint32_t*, const cuuint32_t*,
                            CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion,
                            CUtensorMapFloatOOBfill);

// By name, so that nothing links the driver's library.
Encode find_encode() {
  constexpr unsigned kSince = 12000;
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found,
                                                             kSince, cudaEnableDefault, &result);
  if (error != cudaSuccess || result != cudaDriverEntryPointSuccess) return nullptr;
  return reinterpret_cast<Encode>(found);
}

}  // namespace

template <std::size_t kRank>
cudaError_t make_tensor_map(DType dtype, const void* data,
                            const std::array<TensorMapAxis, kRank>& axes, CUtensorMap& map) {
  static const Encode encode = find_encode();
  if (encode == nullptr) return cudaErrorNotSupported;
  if (size_of(dtype) != 2 || (axes[0].box != 64 && axes[0].box != 32)) return cudaErrorInvalidValue;
  std::array<cuuint64_t, kRank> sizes{};
  std::array<cuuint64_t, kRank> strides{};  // the innermost has none
  std::array<cuuint32_t, kRank> box{};
  std::array<cuuint32_t, kRank> steps{};
  for (std::size_t i = 0; i < kRank; ++i) {
    sizes[i] = axes[i].size;
    if (i > 0) strides[i - 1] = axes[i].stride;
    box[i] = axes[i].box;
    steps[i] = 1;
  }
  const CUresult result = encode(
      &map,
      dtype == DType::kBf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
      kRank, const_cast<void*>(data), sizes.data(), strides.data(), box.data(), steps.data(),
      CU_TENSOR_MAP_INTERLEAVE_NONE,
      box[0] == 64 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

template cudaError_t make_tensor_map<2>(DType, const void*, const std::array<TensorMapAxis, 2>&,
                                        CUtensorMap&);
template cudaError_t make_tensor_map<4>(DType, const void*, const std::array<TensorMapAxis, 4>&,
                                        CUtensorMap&);

}  // namespace facet::kernels
