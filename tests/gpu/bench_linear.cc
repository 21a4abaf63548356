// Decode products at the shapes of Qwen2.5-VL-7B and 3B, with cuBLAS beside them as a control where
// its library is found.
#include <cstdio>

#include "kernels/linear/gemv.h"
#include "tests/gpu/bench.h"
#include "tests/gpu/cublas_control.h"

namespace facet::kernels::bench {
namespace {

struct Matrix {
  const char* name;
  int n, k;
  GemvEpilogue epilogue;
  bool norm, bias;
};
constexpr Matrix kMatrices[] = {
    {"7B qkv", 4608, 3584, GemvEpilogue::kStore, true, true},
    {"7B o", 3584, 3584, GemvEpilogue::kAddInto, false, false},
    {"7B gate+up", 37888, 3584, GemvEpilogue::kSiluMul, true, false},
    {"7B down", 3584, 18944, GemvEpilogue::kAddInto, false, false},
    {"7B head", 152064, 3584, GemvEpilogue::kStore, true, false},
    {"3B qkv", 2560, 2048, GemvEpilogue::kStore, true, true},
    {"3B o", 2048, 2048, GemvEpilogue::kAddInto, false, false},
    {"3B gate+up", 22016, 2048, GemvEpilogue::kSiluMul, true, false},
    {"3B down", 2048, 11008, GemvEpilogue::kAddInto, false, false},
};

constexpr int kLaunches = 24;

double bytes_of(const Matrix& matrix) {
  return 2.0 * matrix.n * matrix.k;
}

double time_gemv(Bench& bench, const Matrix& matrix, const Rotation& weights, int m,
                 bool programmatic) {
  const auto n = static_cast<std::size_t>(matrix.n);
  const auto k = static_cast<std::size_t>(matrix.k);
  const DeviceBytes x = random_bf16(kGemvMaxRows * k, 1.0F), scale = random_bf16(k, 1.0F);
  const DeviceBytes bias = random_bf16(n, 1.0F), out = random_bf16(kGemvMaxRows * n, 1.0F);
  const GemvShape shape{m, matrix.n, matrix.k, matrix.epilogue, 1e-6F};
  GemvArgs args{x.get(),
                matrix.k,
                matrix.norm ? scale.get() : nullptr,
                nullptr,
                matrix.bias ? bias.get() : nullptr,
                out.get(),
                matrix.n};
  return bench.time(kLaunches, [&](int i) {
    args.weight = weights.at(i);
    return gemv(shape, args, {bench.stream(), programmatic});
  });
}

}  // namespace

void bench_linear(Bench& bench) {
  const CublasControl cublas(bench.stream());
  if (!cublas.ready()) std::printf("cuBLAS not found: no control\n");
  for (const Matrix& matrix : kMatrices) {
    const Rotation weights(static_cast<std::size_t>(bytes_of(matrix)), 0.02F);
    const std::string name = matrix.name;
    const auto add = [&](const std::string& what, double us) {
      bench.add(name + " " + what, us, bytes_of(matrix));
    };
    for (const int m : {1, 2, 4})
      if (gemv_fits({m, matrix.n, matrix.k, matrix.epilogue, 1e-6F}, matrix.norm))
        add("m " + std::to_string(m), time_gemv(bench, matrix, weights, m, true));
    add("m 1, no overlap", time_gemv(bench, matrix, weights, 1, false));
    if (!cublas.ready()) continue;
    const DeviceBytes x = random_bf16(64U * static_cast<unsigned>(matrix.k), 1.0F);
    const DeviceBytes out(128U * static_cast<unsigned>(matrix.n));
    for (const int m : {1, 4, 16, 64})
      add("m " + std::to_string(m) + ", cuBLAS", bench.time(kLaunches, [&](int i) {
        return cublas.run(m, matrix.n, matrix.k, x.get(), weights.at(i), out.get());
      }));
  }
}

}  // namespace facet::kernels::bench
