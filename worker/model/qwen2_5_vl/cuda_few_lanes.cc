// CudaLanguage's step of one to four single tokens: all its products are gemv(), which takes norms,
// residual sums and the activation with it, so that weights are read without a pause.
#include "worker/model/qwen2_5_vl/cuda_step.h"

namespace facet {

using kernels::GemvEpilogue;
using kernels::GemvShape;

bool CudaLanguage::has_few_lanes(const Step& step) const {
  if (parts_.type == DType::kFp32 || step.chosen_row != nullptr || !step.groups.empty())
    return false;
  GemvShape widest;
  widest.m = step.rows;
  widest.n = 1;
  widest.k = static_cast<std::int32_t>(config_.hidden_size);
  widest.dtype = parts_.type;
  return kernels::gemv_fits(widest, true);
}

void CudaLanguage::compute_few_lanes(const Step& step) const {
  GemvShape shape;
  shape.m = step.rows;
  shape.eps = static_cast<float>(config_.rms_norm_eps);
  shape.dtype = parts_.type;
  const auto with = [&](GemvEpilogue epilogue) {
    GemvShape with_epilogue = shape;
    with_epilogue.epilogue = epilogue;
    return with_epilogue;
  };
  for (std::size_t layer = 0; layer < weights_.layers.size(); ++layer) {
    const CudaLanguageLayer& w = weights_.layers[layer];
    multiply(shape, buffers_.hidden, &w.norm1, w.qkv_w, &w.qkv_b, buffers_.qkv);
    rope(step, static_cast<std::int64_t>(layer));
    attend(step, static_cast<std::int64_t>(layer));
    multiply(with(GemvEpilogue::kAddInto), buffers_.attended, nullptr, w.o_w, nullptr,
             buffers_.hidden);
    multiply(with(GemvEpilogue::kSiluMul), buffers_.hidden, &w.norm2, w.gate_up_w, nullptr,
             buffers_.inner);
    multiply(with(GemvEpilogue::kAddInto), buffers_.inner, nullptr, w.down_w, nullptr,
             buffers_.hidden);
  }
  multiply(shape, buffers_.hidden, &weights_.final_norm, weights_.head, nullptr, regions_.logits);
  sampler_.sample(regions_.logits, step.chosen_lane, step.chosen_rows, parts_.launch());
}

// All dense; rows and columns of the product are the weight's.
void CudaLanguage::multiply(const GemvShape& shape, const void* x, const DeviceMatrix* norm,
                            const DeviceMatrix& weight, const DeviceMatrix* bias, void* out) const {
  GemvShape whole = shape;
  whole.n = static_cast<std::int32_t>(weight.rows);
  whole.k = static_cast<std::int32_t>(weight.columns);
  kernels::GemvArgs args;
  args.x = x;
  args.x_stride = weight.columns;
  args.norm = norm != nullptr ? norm->data : nullptr;
  args.weight = weight.data;
  args.bias = bias != nullptr ? bias->data : nullptr;
  args.out = out;
  args.out_stride = shape.epilogue == GemvEpilogue::kSiluMul ? weight.rows / 2 : weight.rows;
  FACET_CUDA(kernels::gemv(whole, args, parts_.launch()));
}

}  // namespace facet
