#include "worker/model/cuda/matmul.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "worker/model/cuda/cuda_error.h"

namespace facet {
namespace {

// Plans of prefill are keyed by the exact number of rows: some thousands at most, a kilobyte each.
constexpr std::size_t kMaxPlans = 8192;
constexpr int kTuneCandidates = 12;
constexpr int kTuneRounds = 6;

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

class Event {
 public:
  Event() { FACET_CUDA(cudaEventCreate(&event_)); }
  ~Event() { (void)cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

// cuBLAS is column-major: out^T[N, M] = (weight^T)^T x^T, so the weight is its A, transposed.
struct Matmul::Plan {
  Plan(DType type, const MatmulShape& shape)
      : weight(cuda_type(type), shape.inner, shape.outputs, shape.inner),
        x(cuda_type(type), shape.inner, shape.rows, shape.x_stride),
        out(cuda_type(type), shape.outputs, shape.rows, shape.out_stride) {
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

  std::vector<cublasLtMatmulHeuristicResult_t> propose(cublasLtHandle_t handle, int count) const {
    cublasLtMatmulPreference_t preference = nullptr;
    FACET_CUBLAS(cublasLtMatmulPreferenceCreate(&preference));
    const std::uint64_t workspace = kWorkspaceBytes;
    std::vector<cublasLtMatmulHeuristicResult_t> found(static_cast<std::size_t>(count));
    int num_found = 0;
    cublasStatus_t status = cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    if (status == CUBLAS_STATUS_SUCCESS)
      status =
          cublasLtMatmulAlgoGetHeuristic(handle, operation, weight.get(), x.get(), out.get(),
                                         out.get(), preference, count, found.data(), &num_found);
    (void)cublasLtMatmulPreferenceDestroy(preference);
    FACET_CUBLAS(status);
    found.resize(static_cast<std::size_t>(num_found));
    if (found.empty()) fail_cuda("cuBLASLt has no kernel for a matrix product");
    return found;
  }

  cublasLtMatmulDesc_t operation = nullptr;
  Layout weight, x, out;
  cublasLtMatmulAlgo_t algo{};
  bool tuned = false;
};

Matmul::Matmul(DType type, void* workspace) : type_(type), workspace_(workspace) {
  FACET_CUBLAS(cublasLtCreate(&handle_));
}

Matmul::~Matmul() {
  plans_.clear();
  (void)cublasLtDestroy(handle_);
}

Matmul::Plan& Matmul::plan_for(const MatmulShape& shape) {
  const auto key = shape.key();
  if (const auto found = plans_.find(key); found != plans_.end()) return *found->second;
  if (plans_.size() >= kMaxPlans)
    std::erase_if(plans_, [](const auto& entry) { return !entry.second->tuned; });
  auto plan = std::make_unique<Plan>(type_, shape);
  plan->algo = plan->propose(handle_, 1).front().algo;
  return *plans_.emplace(key, std::move(plan)).first->second;
}

void Matmul::launch(const Plan& plan, const cublasLtMatmulAlgo_t& algo, const void* x,
                    const void* weight, const void* bias, void* out, cudaStream_t stream) {
  constexpr float kOne = 1.0F;
  constexpr float kZero = 0.0F;
  if (bias != nullptr) plan.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  FACET_CUBLAS(cublasLtMatmul(handle_, plan.operation, &kOne, weight, plan.weight.get(), x,
                              plan.x.get(), &kZero, out, plan.out.get(), out, plan.out.get(), &algo,
                              workspace_, kWorkspaceBytes, stream));
}

void Matmul::run(const MatmulShape& shape, const void* x, const void* weight, const void* bias,
                 void* out, cudaStream_t stream) {
  const Plan& plan = plan_for(shape);
  launch(plan, plan.algo, x, weight, bias, out, stream);
}

void Matmul::tune(const MatmulShape& shape, const void* x, std::span<const void* const> weights,
                  const void* bias, void* out, cudaStream_t stream) {
  Plan& plan = plan_for(shape);
  if (plan.tuned) return;
  const Event begin;
  const Event end;
  float best = std::numeric_limits<float>::infinity();
  std::size_t next = 0;
  for (const auto& candidate : plan.propose(handle_, kTuneCandidates)) {
    const auto round = [&] {
      launch(plan, candidate.algo, x, weights[next++ % weights.size()], bias, out, stream);
    };
    round();  // its first run loads the kernel
    FACET_CUDA(cudaEventRecord(begin.get(), stream));
    for (int i = 0; i < kTuneRounds; ++i) round();
    FACET_CUDA(cudaEventRecord(end.get(), stream));
    FACET_CUDA(cudaEventSynchronize(end.get()));
    float milliseconds = 0.0F;
    FACET_CUDA(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()));
    if (milliseconds >= best) continue;
    best = milliseconds;
    plan.algo = candidate.algo;
  }
  plan.tuned = true;
}

}  // namespace facet
