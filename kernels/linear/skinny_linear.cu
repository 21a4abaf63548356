#include "kernels/base/launch.cuh"
#include "kernels/linear/skinny_linear.h"
#include "kernels/linear/skinny_linear_block.cuh"
#include "kernels/linear/skinny_linear_fp32.cuh"

namespace facet::kernels {
namespace skinny {
namespace {

constexpr int kMaxNormWidth = 4 * 8 * kThreads;

__device__ void store_x(std::uint32_t to, const uint4& v) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z),
               "r"(v.w)
               : "memory");
}

// x as it is, zeros behind its end.
template <class T>
__device__ void fill_x(const Params& p, std::uint32_t x_shared) {
  const int vecs = p.pieces * kPieceK / 8;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < p.m * vecs; i += kThreads) {
    const int row = i / vecs;
    const int at = i % vecs;
    uint4 value = make_uint4(0, 0, 0, 0);
    if (at * 8 < p.k)
      value =
          *reinterpret_cast<const uint4*>(static_cast<const T*>(p.x) + row * p.x_stride + at * 8);
    store_x(x_shared + static_cast<unsigned>(row * x_row_bytes(p.pieces) + at * 16), value);
  }
}

template <class T>
__device__ float sum_of_squares(const uint4& bits) {
  const Vec<T>& v = reinterpret_cast<const Vec<T>&>(bits);
  float sum = 0.0F;
#pragma unroll
  for (int j = 0; j < 8; ++j) sum += to_float(v.at[j]) * to_float(v.at[j]);
  return sum;
}

template <class T>
__device__ uint4 normalize(const uint4& bits, const T* w, float scale) {
  Vec<T> v = reinterpret_cast<const Vec<T>&>(bits);
  const Vec<T> weight = load_vec(w);
#pragma unroll
  for (int j = 0; j < 8; ++j)
    v.at[j] = from_float<T>(to_float(weight.at[j]) * round_to<T>(to_float(v.at[j]) * scale));
  return reinterpret_cast<const uint4&>(v);
}

// x through the norm, kRows rows in flight, of each kVecs vectors a thread. The sum over a row is
// by thread, then warp, then rank of the warp, whatever m.
template <class T, int kRows, int kVecs>
__device__ void fill_normed_x(const Params& p, std::uint32_t x_shared, float* sums) {
  const int vecs = p.pieces * kPieceK / 8;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  for (int first = 0; first < p.m; first += kRows) {
    uint4 values[kRows][kVecs];
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int i = 0; i < kVecs; ++i) {
        const int at = i * kThreads + static_cast<int>(threadIdx.x);
        values[r][i] = make_uint4(0, 0, 0, 0);
        if (first + r < p.m && at * 8 < p.k)
          values[r][i] = *reinterpret_cast<const uint4*>(static_cast<const T*>(p.x) +
                                                         (first + r) * p.x_stride + at * 8);
      }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float sum = 0.0F;
#pragma unroll
      for (int i = 0; i < kVecs; ++i) sum += sum_of_squares<T>(values[r][i]);
      sum = warp_sum(sum);
      if (threadIdx.x % 32 == 0) sums[r * kWarps + warp] = sum;
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (first + r >= p.m) continue;
      float sum = 0.0F;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) sum += sums[r * kWarps + w];
      const float scale = 1.0F / sqrtf(sum / static_cast<float>(p.k) + p.eps);
#pragma unroll
      for (int i = 0; i < kVecs; ++i) {
        const int at = i * kThreads + static_cast<int>(threadIdx.x);
        if (at >= vecs) continue;
        const uint4 normed =
            at * 8 < p.k ? normalize(values[r][i], static_cast<const T*>(p.norm) + at * 8, scale)
                         : make_uint4(0, 0, 0, 0);
        store_x(x_shared + static_cast<unsigned>((first + r) * x_row_bytes(p.pieces) + at * 16),
                normed);
      }
    }
    __syncthreads();  // before the next rows' sums
  }
}

template <class T>
__device__ void normalize_x(const Params& p, std::uint32_t x_shared, float* sums) {
  if (p.k <= 2 * 8 * kThreads)
    fill_normed_x<T, 4, 2>(p, x_shared, sums);
  else
    fill_normed_x<T, 2, 4>(p, x_shared, sums);
}

// What a thread adds to its output of a tile, read before the tile's sum is ready.
struct Addends {
  float bias = 0.0F, up_bias = 0.0F, residual = 0.0F;
};

template <class T, class B>
struct Epilogue {
  const Params& p;
  const B& block;
  const int row = static_cast<int>(threadIdx.x) / B::kM;
  const int column = static_cast<int>(threadIdx.x) % B::kM;  // row of x

  __device__ bool is_mine(int tile) const { return column < p.m && row < block.tiles.size(tile); }
  __device__ std::int64_t place(int tile) const {
    return column * p.out_stride + block.tiles.begin(tile) + row;
  }
  __device__ Addends read(int tile) const {
    Addends a;
    if (!is_mine(tile)) return a;
    const int at = block.tiles.begin(tile) + row;
    if (p.bias != nullptr) {
      a.bias = to_float(static_cast<const T*>(p.bias)[at]);
      if (block.tiles.paired) a.up_bias = to_float(static_cast<const T*>(p.bias)[p.n / 2 + at]);
    }
    if (p.epilogue == SkinnyEpilogue::kAddInto)
      a.residual = to_float(static_cast<const T*>(p.out)[place(tile)]);
    return a;
  }
  __device__ void write(int tile, const Addends& a) const {
    if (!is_mine(tile)) return;
    const float sum = round_to<T>(block.total(tile, row, column) + a.bias);
    if (p.epilogue == SkinnyEpilogue::kStoreFp32) {
      static_cast<float*>(p.out)[place(tile)] = sum;
      return;
    }
    float result = sum;
    if (p.epilogue == SkinnyEpilogue::kAddInto) result = a.residual + sum;
    if (p.epilogue == SkinnyEpilogue::kSiluMul) {
      const float up = round_to<T>(block.total(tile, row + kTileRows / 2, column) + a.up_bias);
      result = round_to<T>(silu(sum)) * up;
    }
    static_cast<T*>(p.out)[place(tile)] = from_float<T>(result);
  }
};

template <class T, int kTilesM, bool kStreamX>
__global__ void __launch_bounds__(kThreads, 2) skinny_kernel(const __grid_constant__ Params p) {
  extern __shared__ __align__(128) char shared[];
  using B = Block<T, kTilesM, kStreamX>;
  let_next_kernel_start();
  B block(p, shared);
  for (int i = 0; i + 1 < p.stages; ++i) block.ask_for_next(false);
  wait_for_previous_kernel();
  if constexpr (kStreamX) {
    block.load_first_x();
  } else {
    if (p.norm != nullptr)
      normalize_x<T>(p, block.x_shared, block.partials);
    else
      fill_x<T>(p, block.x_shared);
    __syncthreads();
  }
  const Epilogue<T, B> epilogue{p, block};
  int slot = 0;
  for (int tile = 0; tile < block.tiles.num; ++tile) {
    const Addends addends = epilogue.read(tile);
    for (int piece = Cursor::first_piece(tile, p.pieces, block.warp); piece < p.pieces;
         piece += kWarps) {
      block.wait_for_oldest();
      block.ask_for_next(kStreamX);
      block.add_piece(block.slot_at(slot), piece);
      slot = slot + 1 == p.stages ? 0 : slot + 1;
    }
    block.store_partial(tile);
    __syncthreads();
    epilogue.write(tile, addends);
  }
  wait_for_copies<0>();
}

// ---- host ---------------------------------------------------------------------------------------

struct Plan {
  bool fits = false;
  bool stream_x = false;
  int stages = 0;
  int tiles_m = 1;
  std::size_t shared_bytes = 0;
};

std::size_t shared_for(int stages, int tiles_m, bool stream_x, int pieces, int m) {
  const std::size_t rings = static_cast<std::size_t>(kWarps) * static_cast<std::size_t>(stages) *
                            static_cast<std::size_t>(slot_bytes(tiles_m, stream_x));
  const std::size_t x =
      stream_x ? 0 : static_cast<std::size_t>(m) * static_cast<std::size_t>(x_row_bytes(pieces));
  return rings + static_cast<std::size_t>(partial_bytes(tiles_m)) + x;
}

// Two blocks of half an SM each let the next kernel's weights come in while this one ends.
constexpr std::size_t kHalfOfHopper = 113 * 1024;
// More of x goes through the rings, unless it is normed: filling it first would take longer than
// the weights asked for before it last.
constexpr std::size_t kMaxResidentX = 16 * 1024;

Plan make_plan(const SkinnyLinearShape& shape, bool with_norm, int wanted_stages) {
  Plan plan;
  const DeviceFacts& device = device_facts();
  const int pieces = (shape.k + kPieceK - 1) / kPieceK;
  plan.tiles_m = shape.m > 8 ? 2 : 1;
  const auto x_bytes =
      static_cast<std::size_t>(shape.m) * static_cast<std::size_t>(x_row_bytes(pieces));
  if (with_norm && shape.k > kMaxNormWidth) return plan;
  plan.stream_x = !with_norm && x_bytes > kMaxResidentX;
  const auto bytes = [&](int stages) {
    return shared_for(stages, plan.tiles_m, plan.stream_x, pieces, shape.m);
  };
  const std::size_t aim = device.capability >= 90 ? kHalfOfHopper : device.shared_bytes;
  int stages = wanted_stages != 0 ? wanted_stages : kMaxStages;
  if (wanted_stages == 0) {
    while (stages > 4 && bytes(stages) > aim) --stages;
    while (stages > 2 && bytes(stages) > device.shared_bytes) --stages;
  }
  plan.stages = stages;
  plan.shared_bytes = bytes(stages);
  plan.fits = stages >= 2 && stages <= kMaxStages && plan.shared_bytes <= device.shared_bytes;
  return plan;
}

bool is_valid(const SkinnyLinearShape& shape) {
  return shape.m >= 1 && shape.m <= kSkinnyMaxRows && shape.n >= 1 && shape.k >= 8 &&
         shape.k % 8 == 0 && (shape.epilogue != SkinnyEpilogue::kSiluMul || shape.n % 2 == 0);
}

template <class T>
cudaError_t run(const Params& p, const Plan& plan, int grid, const Launch& launch) {
  const auto start = [&](auto* kernel) {
    return launch_kernel(kernel, dim3(static_cast<unsigned>(grid)), dim3(kThreads),
                         plan.shared_bytes, launch, p);
  };
  if (plan.tiles_m == 1)
    return plan.stream_x ? start(skinny_kernel<T, 1, true>) : start(skinny_kernel<T, 1, false>);
  return plan.stream_x ? start(skinny_kernel<T, 2, true>) : start(skinny_kernel<T, 2, false>);
}

}  // namespace
}  // namespace skinny

bool skinny_linear_fits(const SkinnyLinearShape& shape, bool with_norm) {
  if (!skinny::is_valid(shape)) return false;
  return shape.dtype == DType::kFp32 || skinny::make_plan(shape, with_norm, 0).fits;
}

cudaError_t skinny_linear_tuned(const SkinnyLinearShape& shape, const SkinnyLinearArgs& args,
                                const SkinnyTuning& tuning, const Launch& launch) {
  if (!skinny::is_valid(shape) || args.x_stride % 8 != 0) return cudaErrorInvalidValue;
  const skinny::Params p{args.x,
                         args.norm,
                         args.weight,
                         args.bias,
                         args.out,
                         args.x_stride,
                         args.out_stride,
                         shape.m,
                         shape.n,
                         shape.k,
                         (shape.k + skinny::kPieceK - 1) / skinny::kPieceK,
                         0,
                         shape.epilogue,
                         shape.eps};
  if (shape.dtype == DType::kFp32) return skinny::run_fp32(p, launch);
  const skinny::Plan plan = skinny::make_plan(shape, args.norm != nullptr, tuning.stages);
  if (!plan.fits) return cudaErrorInvalidValue;
  skinny::Params params = p;
  params.stages = plan.stages;
  const int units = shape.epilogue == SkinnyEpilogue::kSiluMul ? shape.n / 2 : shape.n;
  const int sms = device_facts().num_sms;
  const int grid = units < sms ? units : sms;
  if (shape.dtype == DType::kFp16) return skinny::run<Fp16>(params, plan, grid, launch);
  return skinny::run<Bf16>(params, plan, grid, launch);
}

cudaError_t skinny_linear(const SkinnyLinearShape& shape, const SkinnyLinearArgs& args,
                          const Launch& launch) {
  return skinny_linear_tuned(shape, args, SkinnyTuning{}, launch);
}

}  // namespace facet::kernels
