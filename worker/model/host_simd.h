// Sixteen floats at a time in the widest registers of the translation unit's instruction set. For
// host_gemm_impl.h and host_ops_impl.h alone, and like them in an unnamed namespace, so that no
// inline function compiled for a newer CPU serves an older one.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "worker/model/host_float.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

// For what has to be inlined, lest sums leave their registers.
#define FACET_INLINE inline __attribute__((always_inline))

namespace facet {
namespace {

inline float load(float x) {
  return x;
}
inline float load(Bf16 x) {
  const std::uint32_t bits = static_cast<std::uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <class T>
T store(float x);
template <>
inline float store<float>(float x) {
  return x;
}
template <>
inline Bf16 store<Bf16>(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const std::uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  const bool nan = (bits & 0x7fffffffU) > 0x7f800000U;
  return Bf16{static_cast<std::uint16_t>(nan ? 0x7fc0U : rounded)};
}

// x rounded to T and read back.
template <class T>
inline float round_to(float x) {
  return load(store<T>(x));
}

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
inline Lanes lanes_add(Lanes a, Lanes b) {
  return {_mm512_add_ps(a.v, b.v)};
}
inline Lanes lanes_sub(Lanes a, Lanes b) {
  return {_mm512_sub_ps(a.v, b.v)};
}
inline Lanes lanes_mul(Lanes a, Lanes b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
inline Lanes lanes_div(Lanes a, Lanes b) {
  return {_mm512_div_ps(a.v, b.v)};
}
// Where a or b is not a number: b.
inline Lanes lanes_max(Lanes a, Lanes b) {
  return {_mm512_max_ps(a.v, b.v)};
}
inline Lanes lanes_min(Lanes a, Lanes b) {
  return {_mm512_min_ps(a.v, b.v)};
}
inline Lanes lanes_round(Lanes x) {
  return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
// x * 2^n of whole n in [-126, 127].
inline Lanes lanes_scale(Lanes x, Lanes n) {
  return {_mm512_scalef_ps(x.v, n.v)};
}
// x, but 0 where score is minus infinity.
inline Lanes lanes_zero_where_lowest(Lanes score, Lanes x) {
  const __m512 lowest = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(score.v, lowest, _CMP_NEQ_UQ), x.v)};
}
// The bits of x rounded to bf16, in the lower halves.
inline __m512i bf16_bits(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, half), 16);
  return _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q),
                               _mm512_set1_epi32(0x7fc0));
}
inline void lanes_store(Bf16* to, Lanes x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(bf16_bits(x.v)));
}
inline Lanes lanes_round_to_bf16(Lanes x) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(bf16_bits(x.v), 16))};
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
inline Lanes lanes_add(Lanes a, Lanes b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
inline Lanes lanes_sub(Lanes a, Lanes b) {
  return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
inline Lanes lanes_mul(Lanes a, Lanes b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
inline Lanes lanes_div(Lanes a, Lanes b) {
  return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
inline Lanes lanes_max(Lanes a, Lanes b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
inline Lanes lanes_min(Lanes a, Lanes b) {
  return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
inline Lanes lanes_round(Lanes x) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(x.low, kNearest), _mm256_round_ps(x.high, kNearest)};
}
inline __m256 power_of_two(__m256 n) {
  const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}
inline Lanes lanes_scale(Lanes x, Lanes n) {
  return lanes_mul(x, {power_of_two(n.low), power_of_two(n.high)});
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
template <class Function>
inline Lanes lanes_each(Lanes a, Lanes b, Function function) {
  Lanes out;
  for (int i = 0; i < 16; ++i) out.v[i] = function(a.v[i], b.v[i]);
  return out;
}
inline Lanes lanes_add(Lanes a, Lanes b) {
  return lanes_each(a, b, [](float x, float y) { return x + y; });
}
inline Lanes lanes_sub(Lanes a, Lanes b) {
  return lanes_each(a, b, [](float x, float y) { return x - y; });
}
inline Lanes lanes_mul(Lanes a, Lanes b) {
  return lanes_each(a, b, [](float x, float y) { return x * y; });
}
inline Lanes lanes_div(Lanes a, Lanes b) {
  return lanes_each(a, b, [](float x, float y) { return x / y; });
}
inline Lanes lanes_max(Lanes a, Lanes b) {
  return lanes_each(a, b, [](float x, float y) { return x > y ? x : y; });
}
inline Lanes lanes_min(Lanes a, Lanes b) {
  return lanes_each(a, b, [](float x, float y) { return x < y ? x : y; });
}
inline Lanes lanes_fma(Lanes a, Lanes b, Lanes c) {
  return lanes_add(lanes_mul(a, b), c);
}
inline Lanes lanes_round(Lanes x) {
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  return lanes_sub(lanes_add(x, lanes_all(kRound)), lanes_all(kRound));
}
inline Lanes lanes_scale(Lanes x, Lanes n) {
  for (int i = 0; i < 16; ++i) {
    const auto power = static_cast<std::uint32_t>(static_cast<std::int32_t>(n.v[i]) + 127) << 23;
    float scale;
    std::memcpy(&scale, &power, sizeof scale);
    x.v[i] *= scale;
  }
  return x;
}

#endif

inline float lanes_highest(Lanes x) {
  float values[16];
  lanes_store(values, x);
  float highest = values[0];
  for (const float value : values) highest = std::max(highest, value);
  return highest;
}

inline float lanes_sum(Lanes x) {
  float values[16];
  lanes_store(values, x);
  float sum = 0.0F;
  for (const float value : values) sum += value;
  return sum;
}

#if !defined(__AVX512F__)
// x, but 0 where score is minus infinity.
inline Lanes lanes_zero_where_lowest(Lanes score, Lanes x) {
  float scores[16];
  float values[16];
  lanes_store(scores, score);
  lanes_store(values, x);
  for (int i = 0; i < 16; ++i)
    values[i] = scores[i] == -std::numeric_limits<float>::infinity() ? 0.0F : values[i];
  return lanes_load(values);
}
inline void lanes_store(Bf16* to, Lanes x) {
  float values[16];
  lanes_store(values, x);
  for (int i = 0; i < 16; ++i) to[i] = store<Bf16>(values[i]);
}
inline Lanes lanes_round_to_bf16(Lanes x) {
  float values[16];
  lanes_store(values, x);
  for (float& value : values) value = round_to<Bf16>(value);
  return lanes_load(values);
}
#endif

template <class T>
inline Lanes lanes_round_to(Lanes x) {
  if constexpr (sizeof(T) == sizeof(float)) return x;
  return lanes_round_to_bf16(x);
}

// The first `count` of sixteen; others are 0, or not written.
template <class T>
inline Lanes lanes_load(const T* from, std::int64_t count) {
  T values[16] = {};
  std::copy_n(from, count, values);
  return lanes_load(values);
}
template <class T>
inline void lanes_store(T* to, Lanes x, std::int64_t count) {
  T values[16];
  lanes_store(values, x);
  std::copy_n(values, count, to);
}

// function(i, ...) for sixteen values from i on: with the count behind the last whole sixteen, to
// be handed on to lanes_load() and lanes_store().
template <class Function>
inline void for_lanes(std::int64_t count, Function function) {
  std::int64_t i = 0;
  for (; i + 16 <= count; i += 16) function(i);
  if (i < count) function(i, count - i);
}

// e^x to about 1 ulp: 2^n * e^r with n = round(x / ln 2) and r = x - n ln 2, |r| <= ln 2 / 2, where
// the Taylor polynomial to r^7 is off by less than an ulp. ln 2 is subtracted in two parts, of
// which the first has so few bits that n times it is exact. Beyond [-87.3, 88.3] as at the ends;
// not a number stays so.
inline Lanes lanes_exp(Lanes x) {
  x = lanes_min(lanes_all(88.3F), lanes_max(lanes_all(-87.3F), x));
  const Lanes n = lanes_round(lanes_mul(x, lanes_all(1.44269504F)));
  Lanes r = lanes_fma(n, lanes_all(-0.693359375F), x);
  r = lanes_fma(n, lanes_all(2.12194440e-4F), r);
  Lanes p = lanes_fma(lanes_all(1.0F / 5040.0F), r, lanes_all(1.0F / 720.0F));
  p = lanes_fma(p, r, lanes_all(1.0F / 120.0F));
  p = lanes_fma(p, r, lanes_all(1.0F / 24.0F));
  p = lanes_fma(p, r, lanes_all(1.0F / 6.0F));
  p = lanes_fma(p, r, lanes_all(0.5F));
  p = lanes_fma(lanes_mul(p, r), r, r);
  return lanes_scale(lanes_add(lanes_all(1.0F), p), n);
}

// For rows r and panels p of a tile: end(r, p, begin(r, p) + the sum over k = 0 .. depth - 1, in
// this order, of a[r * a_stride + k] * b[p][k * b_step ...]). A row's sums do not depend on how
// many rows are computed with it. kAhead: values `ahead` from those in use are fetched on the way.
template <int kRows, int kPanels, bool kAhead, class W, class Begin, class End>
inline void tile_multiply(const float* a, std::int64_t a_stride, const W* const* b,
                          std::int64_t b_step, std::int64_t depth, std::int64_t ahead,
                          const Begin& begin, const End& end) {
  Lanes sums[kRows][kPanels];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int p = 0; p < kPanels; ++p) sums[r][p] = begin(r, p);
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
      if constexpr (kAhead) __builtin_prefetch(panel[p] + ahead, 0, 2);
      panel[p] += b_step;
    }
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const Lanes x = lanes_all(group[r / 3][(r % 3) * a_stride]);
#pragma GCC unroll 2
      for (int p = 0; p < kPanels; ++p) sums[r][p] = lanes_fma(x, w[p], sums[r][p]);
    }
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) ++group[g];
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (int p = 0; p < kPanels; ++p) end(r, p, sums[r][p]);
}

// The same for a number of rows and panels known at run time.
template <bool kAhead, int kRows = kTileRows, class W, class Begin, class End>
inline void tile_multiply_any(int rows, int panels, const float* a, std::int64_t a_stride,
                              const W* const* b, std::int64_t b_step, std::int64_t depth,
                              std::int64_t ahead, const Begin& begin, const End& end) {
  if constexpr (kRows > 1) {
    if (rows < kRows)
      return tile_multiply_any<kAhead, kRows - 1>(rows, panels, a, a_stride, b, b_step, depth,
                                                  ahead, begin, end);
  }
  if constexpr (kTilePanels > 1) {
    if (panels > 1)
      return tile_multiply<kRows, 2, kAhead>(a, a_stride, b, b_step, depth, ahead, begin, end);
  }
  tile_multiply<kRows, 1, kAhead>(a, a_stride, b, b_step, depth, ahead, begin, end);
}

}  // namespace
}  // namespace facet
