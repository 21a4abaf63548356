#include "worker/image/resize_passes.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>

#define FACET_AVX2 __attribute__((target("avx2")))

namespace facet {
namespace {

// Two taps at once: bytes of two pixels side by side as int16, times two weights, summed in int32.
// Sums stay exact: int16 weights times bytes, and the weights of an output sum to one.

FACET_AVX2 inline __m128i load16(const std::uint8_t* from) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}

// Four taps of one output pixel: taps 0 and 1 in the lower lane, 2 and 3 in the upper.
FACET_AVX2 void row_pass(const std::uint8_t* input, const ResizeWeights& weights,
                         std::uint8_t* output) {
  const __m256i spread = _mm256_setr_epi8(
      0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,    // taps 0 and 1
      6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);  // taps 2 and 3
  const __m256i lanes = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
  const __m128i half = _mm_set1_epi32(1 << (weights.precision - 1));
  const __m128i shift = _mm_cvtsi32_si128(static_cast<int>(weights.precision));
  const std::int16_t* weight = weights.weights.data();
  for (std::size_t x = 0; x < weights.begin.size(); ++x, weight += weights.num_taps, output += 3) {
    const std::uint8_t* pixel = input + 3 * static_cast<std::size_t>(weights.begin[x]);
    __m256i sums = _mm256_setzero_si256();
    for (std::int32_t k = 0; k < weights.count[x]; k += 4, pixel += 12) {
      std::int64_t four = 0;
      std::memcpy(&four, weight + k, sizeof four);
      const __m256i factors = _mm256_permutevar8x32_epi32(_mm256_set1_epi64x(four), lanes);
      const __m256i four_pixels = _mm256_broadcastsi128_si256(load16(pixel));
      const __m256i pixels = _mm256_shuffle_epi8(four_pixels, spread);
      sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pixels, factors));
    }
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    sum = _mm_sra_epi32(_mm_add_epi32(sum, half), shift);
    sum = _mm_packus_epi16(_mm_packs_epi32(sum, sum), sum);
    const int bytes = _mm_cvtsi128_si32(sum);
    std::memcpy(output, &bytes, sizeof bytes);
  }
}

constexpr std::size_t kBlockBytes = 16;

// Adds two taps to the sums of 16 bytes.
FACET_AVX2 inline void add_taps(__m128i first, __m128i second, __m256i factors, __m256i& low,
                                __m256i& high) {
  const __m256i near = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(first, second));
  const __m256i far = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(first, second));
  low = _mm256_add_epi32(low, _mm256_madd_epi16(near, factors));
  high = _mm256_add_epi32(high, _mm256_madd_epi16(far, factors));
}

// Sixteen bytes of the output; `count` taps from rows that follow `from`.
FACET_AVX2 inline void column_block(const std::uint8_t* from, std::size_t stride_bytes,
                                    const std::int16_t* weight, std::int32_t count,
                                    unsigned precision, std::uint8_t* output) {
  __m256i low = _mm256_set1_epi32(1 << (precision - 1));
  __m256i high = low;
  std::int32_t k = 0;
  for (; k + 2 <= count; k += 2, from += 2 * stride_bytes) {
    int two = 0;
    std::memcpy(&two, weight + k, sizeof two);
    add_taps(load16(from), load16(from + stride_bytes), _mm256_set1_epi32(two), low, high);
  }
  if (k < count) {
    const int one = static_cast<std::uint16_t>(weight[k]);
    add_taps(load16(from), _mm_setzero_si128(), _mm256_set1_epi32(one), low, high);
  }
  const __m128i shift = _mm_cvtsi32_si128(static_cast<int>(precision));
  low = _mm256_sra_epi32(low, shift);
  high = _mm256_sra_epi32(high, shift);
  // packs works lane by lane: low 0-3, high 0-3 | low 4-7, high 4-7; put the quarters in order.
  const __m256i words =
      _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), _MM_SHUFFLE(3, 1, 2, 0));
  const __m128i bytes =
      _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(output), bytes);
}

FACET_AVX2 void column_pass(const std::uint8_t* input, std::size_t stride_bytes,
                            std::size_t row_bytes, const ResizeWeights& weights, std::int64_t y,
                            std::uint8_t* output) {
  if (row_bytes < kBlockBytes) {
    plain_resize_passes().column(input, stride_bytes, row_bytes, weights, y, output);
    return;
  }
  const auto index = static_cast<std::size_t>(y);
  const std::int16_t* weight = weights.weights.data() + y * weights.num_taps;
  input += static_cast<std::size_t>(weights.begin[index]) * stride_bytes;
  for (std::size_t at = 0; at < row_bytes; at += kBlockBytes) {
    // The last block reaches back over bytes that are done: the same values again.
    at = at + kBlockBytes <= row_bytes ? at : row_bytes - kBlockBytes;
    column_block(input + at, stride_bytes, weight, weights.count[index], weights.precision,
                 output + at);
  }
}

}  // namespace

const ResizePasses* avx2_resize_passes() {
  static const ResizePasses passes{row_pass, column_pass};
  static const bool has_avx2 = __builtin_cpu_supports("avx2");
  return has_avx2 ? &passes : nullptr;
}

}  // namespace facet

#else

namespace facet {

const ResizePasses* avx2_resize_passes() { return nullptr; }

}  // namespace facet

#endif
