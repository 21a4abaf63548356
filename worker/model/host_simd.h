// Sixteen floats at a time in the widest registers of the translation unit's instruction set. For
// host_gemm_impl.h alone, and like it in an unnamed namespace.
#pragma once

#include <cstdint>
#include <cstring>

#include "worker/model/host_float.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace facet {
namespace {

// kTileRows x kTilePanels Lanes of sums, the panel's values and one broadcast fit the registers.
#if defined(__AVX512F__)

constexpr int kTileRows = 12;
constexpr int kTilePanels = 2;

struct Lanes {
  __m512 v;
};
inline Lanes lanes_zero() {
  return {_mm512_setzero_ps()};
}
inline Lanes lanes_all(float x) {
  return {_mm512_set1_ps(x)};
}
inline Lanes lanes_load(const float* from) {
  return {_mm512_loadu_ps(from)};
}
inline Lanes lanes_load(const Bf16* from) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
inline void lanes_store(float* to, Lanes x) {
  _mm512_storeu_ps(to, x.v);
}
inline Lanes lanes_fma(Lanes a, Lanes b, Lanes c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}

#elif defined(__AVX2__) && defined(__FMA__)

constexpr int kTileRows = 6;
constexpr int kTilePanels = 1;

struct Lanes {
  __m256 low, high;
};
inline Lanes lanes_zero() {
  return {_mm256_setzero_ps(), _mm256_setzero_ps()};
}
inline Lanes lanes_all(float x) {
  return {_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
inline Lanes lanes_load(const float* from) {
  return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
}
inline __m256 widen(const Bf16* from) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
inline Lanes lanes_load(const Bf16* from) {
  return {widen(from), widen(from + 8)};
}
inline void lanes_store(float* to, Lanes x) {
  _mm256_storeu_ps(to, x.low);
  _mm256_storeu_ps(to + 8, x.high);
}
inline Lanes lanes_fma(Lanes a, Lanes b, Lanes c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}

#else

constexpr int kTileRows = 2;
constexpr int kTilePanels = 1;

struct Lanes {
  float v[16];
};
inline Lanes lanes_all(float x) {
  Lanes out;
  for (float& lane : out.v) lane = x;
  return out;
}
inline Lanes lanes_zero() {
  return lanes_all(0.0F);
}
inline Lanes lanes_load(const float* from) {
  Lanes out;
  for (int i = 0; i < 16; ++i) out.v[i] = from[i];
  return out;
}
inline Lanes lanes_load(const Bf16* from) {
  Lanes out;
  for (int i = 0; i < 16; ++i) {
    const std::uint32_t bits = static_cast<std::uint32_t>(from[i].bits) << 16;
    std::memcpy(&out.v[i], &bits, sizeof bits);
  }
  return out;
}
inline void lanes_store(float* to, Lanes x) {
  for (int i = 0; i < 16; ++i) to[i] = x.v[i];
}
inline Lanes lanes_fma(Lanes a, Lanes b, Lanes c) {
  Lanes out;
  for (int i = 0; i < 16; ++i) out.v[i] = a.v[i] * b.v[i] + c.v[i];
  return out;
}

#endif

// sums[r][p] += a[r * a_stride + k] * b[p][k * b_step ...], k = 0 .. depth - 1 in this order, so
// that a row's sums do not depend on how many rows are computed with it.
template <int kRows, int kPanels, class W>
inline void tile_multiply(const float* a, std::int64_t a_stride, const W* const* b,
                          std::int64_t b_step, std::int64_t depth,
                          Lanes (&sums)[kTileRows][kTilePanels]) {
  Lanes local[kRows][kPanels];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int p = 0; p < kPanels; ++p) local[r][p] = sums[r][p];
  const W* panel[kPanels];
  for (int p = 0; p < kPanels; ++p) panel[p] = b[p];
  // Every third row has a pointer of its own: the two after it are reached by index registers.
  constexpr int kGroups = (kRows + 2) / 3;
  const float* group[kGroups];
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g) group[g] = a + 3 * g * a_stride;
  for (std::int64_t k = 0; k < depth; ++k) {
    Lanes w[kPanels];
#pragma GCC unroll 2
    for (int p = 0; p < kPanels; ++p) {
      w[p] = lanes_load(panel[p]);
      panel[p] += b_step;
    }
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const Lanes x = lanes_all(group[r / 3][(r % 3) * a_stride]);
#pragma GCC unroll 2
      for (int p = 0; p < kPanels; ++p) local[r][p] = lanes_fma(x, w[p], local[r][p]);
    }
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) ++group[g];
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int p = 0; p < kPanels; ++p) sums[r][p] = local[r][p];
}

// The same for a number of rows and panels known at run time.
template <int kRows = kTileRows, class W>
inline void tile_multiply_any(int rows, int panels, const float* a, std::int64_t a_stride,
                              const W* const* b, std::int64_t b_step, std::int64_t depth,
                              Lanes (&sums)[kTileRows][kTilePanels]) {
  if constexpr (kRows > 1) {
    if (rows < kRows)
      return tile_multiply_any<kRows - 1>(rows, panels, a, a_stride, b, b_step, depth, sums);
  }
  if constexpr (kTilePanels > 1) {
    if (panels > 1) return tile_multiply<kRows, 2>(a, a_stride, b, b_step, depth, sums);
  }
  tile_multiply<kRows, 1>(a, a_stride, b, b_step, depth, sums);
}

}  // namespace
}  // namespace facet
