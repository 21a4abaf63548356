#include "worker/model/cuda/matmul.h"

#include <utility>

#include "kernels/activation/silu_mul.h"
#include "kernels/linear/gated_linear.h"
#include "worker/model/cuda/cuda_error.h"

namespace facet {
namespace {

// Plans of prefill are keyed by the exact number of rows: some thousands at most, a kilobyte each.
constexpr std::size_t kMaxPlans = 8192;

cudaDataType_t cuda_type(DType type) {
  switch (type) {
    case DType::kFp32:
      return CUDA_R_32F;
    case DType::kFp16:
      return CUDA_R_16F;
    case DType::kBf16:
      break;
  }
  return CUDA_R_16BF;
}

class Layout {
 public:
  // Column-major `rows` x `columns`: a row-major matrix of `columns` rows.
  Layout(cudaDataType_t type, std::int64_t rows, std::int64_t columns, std::int64_t stride) {
    FACET_CUBLAS(cublasLtMatrixLayoutCreate(&layout_, type, static_cast<std::uint64_t>(rows),
                                            static_cast<std::uint64_t>(columns), stride));
  }
  ~Layout() { (void)cublasLtMatrixLayoutDestroy(layout_); }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;
  cublasLtMatrixLayout_t get() const { return layout_; }

 private:
  cublasLtMatrixLayout_t layout_ = nullptr;
};

}  // namespace

// cuBLAS is column-major: out^T[N, M] = (weight^T)^T x^T, so the weight is its A, transposed.
struct Matmul::Plan {
  Plan(DType type, const MatmulShape& shape)
      : is_fp16(type == DType::kFp16),
        weight(cuda_type(type), shape.inner, shape.outputs, shape.inner),
        x(cuda_type(type), shape.inner, shape.rows, shape.inner),
        out(cuda_type(type), shape.outputs, shape.rows, shape.outputs) {
    FACET_CUBLAS(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    const cublasOperation_t transpose = CUBLAS_OP_T;
    set(CUBLASLT_MATMUL_DESC_TRANSA, transpose);
    if (!shape.bias) return;
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    const void* any = this;  // the heuristic wants to see a pointer
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, any);
  }
  ~Plan() { (void)cublasLtMatmulDescDestroy(operation); }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) const {
    FACET_CUBLAS(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof value));
  }

  // What cuBLASLt thinks fastest. In fp16 the parts of a split sum stay fp32: one of them may be
  // beyond the type's range where the whole is not.
  cublasLtMatmulAlgo_t propose(cublasLtHandle_t handle) const {
    cublasLtMatmulPreference_t preference = nullptr;
    FACET_CUBLAS(cublasLtMatmulPreferenceCreate(&preference));
    const std::uint64_t workspace = kLibraryBytes;
    cublasLtMatmulHeuristicResult_t found{};
    int num_found = 0;
    cublasStatus_t status = cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    const auto reductions = static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
    if (status == CUBLAS_STATUS_SUCCESS && is_fp16)
      status = cublasLtMatmulPreferenceSetAttribute(
          preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions);
    if (status == CUBLAS_STATUS_SUCCESS)
      status = cublasLtMatmulAlgoGetHeuristic(handle, operation, weight.get(), x.get(), out.get(),
                                              out.get(), preference, 1, &found, &num_found);
    (void)cublasLtMatmulPreferenceDestroy(preference);
    FACET_CUBLAS(status);
    if (num_found == 0) fail_cuda("cuBLASLt has no kernel for a matrix product");
    return found.algo;
  }

  bool is_fp16;
  cublasLtMatmulDesc_t operation = nullptr;
  Layout weight, x, out;
  cublasLtMatmulAlgo_t algo{};
};

Matmul::Matmul(DType type, void* workspace) : type_(type), workspace_(workspace) {
  static_assert(kernels::kStreamLinearSumBytes <= kLibraryBytes);
  FACET_CUBLAS(cublasLtCreate(&handle_));
  FACET_CUDA(cudaMemset(static_cast<std::byte*>(workspace_) + kLibraryBytes, 0,
                        kernels::kStreamLinearCounterBytes));
}

Matmul::~Matmul() {
  plans_.clear();
  (void)cublasLtDestroy(handle_);
}

const Matmul::Plan& Matmul::plan_for(const MatmulShape& shape) {
  if (const auto found = plans_.find(shape); found != plans_.end()) return *found->second;
  if (plans_.size() >= kMaxPlans) plans_.clear();
  auto plan = std::make_unique<Plan>(type_, shape);
  plan->algo = plan->propose(handle_);
  return *plans_.emplace(shape, std::move(plan)).first->second;
}

// Whether the product was one for stream_linear(), and is under way.
bool Matmul::stream(const MatmulShape& shape, kernels::LinearEpilogue epilogue, const void* x,
                    const void* weight, const void* bias, void* out, cudaStream_t stream) const {
  if (shape.rows > kernels::kStreamLinearMaxRows) return false;
  const kernels::StreamLinearShape own{static_cast<std::int32_t>(shape.rows),
                                       static_cast<std::int32_t>(shape.outputs),
                                       static_cast<std::int32_t>(shape.inner), epilogue, type_};
  if (!kernels::stream_linear_pays(own)) return false;
  std::byte* const sums = static_cast<std::byte*>(workspace_);
  FACET_CUDA(kernels::stream_linear(own, {x, weight, bias, out, sums, sums + kLibraryBytes},
                                    {stream, true}));
  return true;
}

void Matmul::run_gated(const MatmulShape& shape, const void* x, const void* weight,
                       const void* bias, void* product, void* out, cudaStream_t stream) {
  if (this->stream(shape, kernels::LinearEpilogue::kSiluMul, x, weight, bias, out, stream)) return;
  const kernels::GatedLinearShape own{shape.rows, static_cast<std::int32_t>(shape.outputs),
                                      static_cast<std::int32_t>(shape.inner), type_};
  if (kernels::gated_linear_fits(own)) {
    FACET_CUDA(kernels::gated_linear(own, {x, weight, bias, out}, {stream, true}));
    return;
  }
  run(shape, x, weight, bias, product, stream);
  FACET_CUDA(kernels::silu_mul(type_, product, out, shape.rows, shape.outputs / 2, {stream, true}));
}

void Matmul::run(const MatmulShape& shape, const void* x, const void* weight, const void* bias,
                 void* out, cudaStream_t stream) {
  if (this->stream(shape, kernels::LinearEpilogue::kStore, x, weight, bias, out, stream)) return;
  constexpr float kOne = 1.0F;
  constexpr float kZero = 0.0F;
  const Plan& plan = plan_for(shape);
  if (bias != nullptr) plan.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  FACET_CUBLAS(cublasLtMatmul(handle_, plan.operation, &kOne, weight, plan.weight.get(), x,
                              plan.x.get(), &kZero, out, plan.out.get(), out, plan.out.get(),
                              &plan.algo, workspace_, kLibraryBytes, stream));
}

}  // namespace facet
