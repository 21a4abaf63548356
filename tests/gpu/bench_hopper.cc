// Hopper's products at the shapes of Qwen2.5-VL-7B, with cuBLAS beside them as a control.
#include <cstdio>

#include "kernels/activation/silu_mul.h"
#include "kernels/linear/gated_linear.h"
#include "kernels/linear/stream_linear.h"
#include "tests/gpu/bench.h"
#include "tests/gpu/cublas_control.h"

namespace facet::kernels::bench {
namespace {

struct Matrix {
  const char* name;
  int n, k;
  bool gated, bias;
};
constexpr Matrix kMatrices[] = {
    {"7B qkv", 4608, 3584, false, true},      {"7B o", 3584, 3584, false, false},
    {"7B gate+up", 37888, 3584, true, false}, {"7B down", 3584, 18944, false, false},
    {"7B head", 152064, 3584, false, false},  {"3B gate+up", 22016, 2048, true, false},
    {"3B down", 2048, 11008, false, false}};
constexpr int kLaunches = 24;

void bench_stream(Bench& bench, const CublasControl& cublas, const Matrix& matrix) {
  const auto n = static_cast<std::size_t>(matrix.n);
  const auto k = static_cast<std::size_t>(matrix.k);
  const Rotation weights(n * k * 2, 0.02F);
  const DeviceBytes x = random_bf16(kStreamLinearMaxRows * k, 1.0F), bias = random_bf16(n, 1.0F);
  const DeviceBytes out(kStreamLinearMaxRows * n * 2), inner(kStreamLinearMaxRows * n);
  const DeviceBytes sums(kStreamLinearSumBytes);
  DeviceBytes counters(kStreamLinearCounterBytes);
  counters.zero();
  for (const int m : {8, 16, 32, 64}) {
    const auto add = [&](const char* what, double us) {
      bench.add(std::string(matrix.name) + " m " + std::to_string(m) + what, us,
                2.0 * matrix.n * matrix.k);
    };
    const StreamLinearShape shape{m, matrix.n, matrix.k,
                                  matrix.gated ? LinearEpilogue::kSiluMul : LinearEpilogue::kStore,
                                  DType::kBf16};
    if (stream_linear_fits(shape))
      for (const bool overlap : {true, false})
        add(overlap ? ", stream" : ", stream, no overlap", bench.time(kLaunches, [&](int i) {
          return stream_linear(shape,
                               {x.get(), weights.at(i), matrix.bias ? bias.get() : nullptr,
                                out.get(), sums.get(), counters.get()},
                               {bench.stream(), overlap});
        }));
    if (!cublas.ready()) continue;
    add(matrix.gated ? ", cuBLAS and silu_mul" : ", cuBLAS", bench.time(kLaunches, [&](int i) {
      const cudaError_t error =
          cublas.run(m, matrix.n, matrix.k, x.get(), weights.at(i), out.get());
      if (error != cudaSuccess || !matrix.gated) return error;
      return silu_mul(DType::kBf16, out.get(), inner.get(), m, matrix.n / 2,
                      {bench.stream(), true});
    }));
  }
}

void bench_gated(Bench& bench, const CublasControl& cublas, int n, int k, int m) {
  constexpr int kTimes = 4;
  const auto wide = static_cast<std::size_t>(n);
  const auto rows = static_cast<std::size_t>(m);
  const Rotation weights(wide * static_cast<std::size_t>(k) * 2, 0.02F);
  const DeviceBytes x = random_bf16(rows * static_cast<std::size_t>(k), 1.0F);
  const DeviceBytes out(rows * wide * 2), inner(rows * wide);
  const auto add = [&](const char* what, double us) {
    bench.add(
        "gated " + std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k) + what,
        us, 0);
    std::printf("  %.1f TFLOP/s\n", 2.0 * m * n * k / us / 1e6);
  };
  const GatedLinearShape shape{m, n, k, DType::kBf16};
  for (int round = 0; round < 2; ++round) {  // the card's clock follows what it did before
    if (gated_linear_fits(shape))
      add(", one kernel", bench.time(kTimes, [&](int i) {
        return gated_linear(shape, {x.get(), weights.at(i), nullptr, inner.get()},
                            {bench.stream(), true});
      }));
    if (!cublas.ready()) continue;
    add(", cuBLAS alone", bench.time(kTimes, [&](int i) {
      return cublas.run(m, n, k, x.get(), weights.at(i), out.get());
    }));
    add(", cuBLAS and silu_mul", bench.time(kTimes, [&](int i) {
      const cudaError_t error = cublas.run(m, n, k, x.get(), weights.at(i), out.get());
      if (error != cudaSuccess) return error;
      return silu_mul(DType::kBf16, out.get(), inner.get(), m, n / 2, {bench.stream(), true});
    }));
  }
}

}  // namespace

void bench_hopper(Bench& bench) {
  const CublasControl cublas(bench.stream());
  if (!cublas.ready()) std::printf("cuBLAS not found: no control\n");
  for (const Matrix& matrix : kMatrices) bench_stream(bench, cublas, matrix);
  for (const int m : {768, 2048, 8192}) bench_gated(bench, cublas, 37888, 3584, m);
  bench_gated(bench, cublas, 6848, 1280, 5476);
}

}  // namespace facet::kernels::bench
