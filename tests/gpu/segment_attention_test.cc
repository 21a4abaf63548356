// Attention inside segments against double arithmetic, and the gathering of keys and values out of
// blocks, value for value.
#include "kernels/attention/segment_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "kernels/attention/kv_gather.h"
#include "tests/gpu/device_data.h"

namespace facet::kernels {
namespace {

using Size = std::size_t;

struct Segments {
  DType dtype;
  int heads, kv_heads, dim;
  bool causal;
  std::vector<std::int32_t> queries, keys;  // rows of each
};

std::vector<std::int32_t> begins(const std::vector<std::int32_t>& counts) {
  std::vector<std::int32_t> out(counts.size() + 1);
  std::partial_sum(counts.begin(), counts.end(), out.begin() + 1);
  return out;
}

// What it holds beside the rows' own values (heads of a wider row) is NaN.
std::vector<float> rows_of(const Segments& s, Size rows, Size width, Size stride) {
  const auto values = random_values(s.dtype, rows * width);
  std::vector<float> out(rows * stride, NAN);
  for (Size row = 0; row < rows; ++row)
    std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(row * width), width,
                out.begin() + static_cast<std::ptrdiff_t>(row * stride));
  return out;
}

struct Rows {
  std::vector<float> q, k, v;
  Size q_stride, k_stride, v_stride;
};

// One row and head of queries; keys [first, first + seen).
std::vector<double> attend(const Segments& s, const Rows& rows, Size query, int head, Size first,
                           Size seen, float scale) {
  const auto dim = static_cast<Size>(s.dim);
  const auto kv_head = static_cast<Size>(head / (s.heads / s.kv_heads));
  const float* q = rows.q.data() + query * rows.q_stride + static_cast<Size>(head) * dim;
  std::vector<double> weights(seen), out(dim);
  for (Size key = 0; key < seen; ++key) {
    const float* k = rows.k.data() + (first + key) * rows.k_stride + kv_head * dim;
    for (Size d = 0; d < dim; ++d) weights[key] += static_cast<double>(q[d]) * k[d] * scale;
  }
  const double top = *std::max_element(weights.begin(), weights.end());
  double total = 0.0;
  for (double& weight : weights) total += weight = std::exp(weight - top);
  for (Size key = 0; key < seen; ++key) {
    const float* v = rows.v.data() + (first + key) * rows.v_stride + kv_head * dim;
    for (Size d = 0; d < dim; ++d) out[d] += weights[key] / total * v[d];
  }
  return out;
}

void check(const Segments& s, Size gap) {
  const auto query_begin = begins(s.queries), key_begin = begins(s.keys);
  const auto query_rows = static_cast<Size>(query_begin.back());
  const auto key_rows = static_cast<Size>(key_begin.back());
  const auto width = static_cast<Size>(s.heads * s.dim);
  const auto kv_width = static_cast<Size>(s.kv_heads * s.dim);
  Rows rows{{}, {}, {}, width + gap, kv_width + 2 * gap, kv_width + 3 * gap};
  rows.q = rows_of(s, query_rows, width, rows.q_stride);
  rows.k = rows_of(s, key_rows, kv_width, rows.k_stride);
  rows.v = rows_of(s, key_rows, kv_width, rows.v_stride);
  const float scale = 1.0F / std::sqrt(static_cast<float>(s.dim));

  SegmentAttentionShape shape;
  shape.segments = static_cast<std::int32_t>(s.queries.size());
  shape.max_query_rows = *std::max_element(s.queries.begin(), s.queries.end());
  shape.heads = s.heads;
  shape.kv_heads = s.kv_heads;
  shape.head_dim = s.dim;
  shape.causal = s.causal;
  shape.scale = scale;
  shape.dtype = s.dtype;
  const DeviceBytes q = upload(s.dtype, rows.q), k = upload(s.dtype, rows.k);
  const DeviceBytes v = upload(s.dtype, rows.v);
  const DeviceBytes dqueries = upload_raw(query_begin), dkeys = upload_raw(key_begin);
  const Size out_stride = width + gap;
  const DeviceBytes out(query_rows * out_stride * size_of(s.dtype));
  SegmentAttentionArgs args;
  args.q = q.get();
  args.k = k.get();
  args.v = v.get();
  args.q_stride = static_cast<std::int64_t>(rows.q_stride);
  args.k_stride = static_cast<std::int64_t>(rows.k_stride);
  args.v_stride = static_cast<std::int64_t>(rows.v_stride);
  args.out_stride = static_cast<std::int64_t>(out_stride);
  args.query_begin = static_cast<const std::int32_t*>(dqueries.get());
  args.key_begin = static_cast<const std::int32_t*>(dkeys.get());
  args.out = out.get();
  FACET_CUDA_OK(segment_attention(shape, args, {}));
  FACET_CUDA_OK(cudaDeviceSynchronize());

  std::vector<double> want;
  for (Size segment = 0; segment < s.queries.size(); ++segment)
    for (int i = 0; i < s.queries[segment]; ++i) {
      const int seen = s.causal ? s.keys[segment] - s.queries[segment] + i + 1 : s.keys[segment];
      for (int head = 0; head < s.heads; ++head) {
        const auto one =
            attend(s, rows, static_cast<Size>(query_begin[segment] + i), head,
                   static_cast<Size>(key_begin[segment]), static_cast<Size>(seen), scale);
        want.insert(want.end(), one.begin(), one.end());
      }
    }
  const auto got_rows = download(s.dtype, out, query_rows * out_stride);
  std::vector<float> got;
  for (Size row = 0; row < query_rows; ++row)
    for (Size i = 0; i < out_stride; ++i) {
      const float value = got_rows[row * out_stride + i];
      if (i < width)
        got.push_back(value);
      else
        ASSERT_TRUE(std::isnan(value)) << "written beside row " << row;
    }
  const double factor = s.dtype == DType::kFp32 ? 4 : 1;
  const Tolerance ulp = one_ulp(s.dtype);
  expect_close("segment_attention " + name_of(s.dtype) + " " + std::to_string(s.heads) + "/" +
                   std::to_string(s.kv_heads) + "x" + std::to_string(s.dim) +
                   (s.causal ? " causal" : ""),
               got, want, {ulp.relative * factor, ulp.absolute * factor});
}

TEST(SegmentAttention, EqualsTheSum) {
  for (const DType dtype : {DType::kFp32, DType::kBf16, DType::kFp16})
    for (const int dim : {1, 24, 32, 80, 128, 256}) {
      // One query, an empty segment, one key, a chunk with context before it, a long one.
      check({dtype, 6, 2, dim, true, {1, 0, 1, 7, 130}, {1, 0, 300, 40, 130}}, 0);
      check({dtype, 4, 4, dim, false, {64, 3, 49, 16}, {64, 3, 49, 16}}, 8);
      check({dtype, 5, 1, dim, false, {3, 17}, {200, 1}}, 16);
    }
}

TEST(SegmentAttention, RefusesWhatItCannotDo) {
  SegmentAttentionShape shape;
  shape.segments = shape.max_query_rows = 1;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.head_dim = 64;
  const auto refused = [&](auto change) {
    SegmentAttentionShape bad = shape;
    change(bad);
    return segment_attention(bad, {}, {}) == cudaErrorInvalidValue;
  };
  EXPECT_TRUE(refused([](auto& s) { s.head_dim = 257; }));
  EXPECT_TRUE(refused([](auto& s) { s.head_dim = 0; }));
  EXPECT_TRUE(refused([](auto& s) { s.kv_heads = 3; }));
  EXPECT_TRUE(refused([](auto& s) { s.segments = 65536; }));
  EXPECT_TRUE(refused([](auto& s) { s.max_query_rows = -1; }));
}

struct Gather {
  DType dtype;
  int kv_heads, dim;
  bool heads_first;
  std::vector<std::int32_t> rows;  // of each sequence
};

// Blocks in any order, lanes in another order than sequences.
void check(const Gather& g) {
  std::mt19937 random(next_seed());
  const auto row_begin = begins(g.rows);
  const Size sequences = g.rows.size(), lanes = sequences + 2;
  const auto max_rows = *std::max_element(g.rows.begin(), g.rows.end());
  const auto width = static_cast<Size>((max_rows + 15) / 16 + 1);
  const auto row_values = static_cast<Size>(g.kv_heads * g.dim);
  const Size blocks = lanes * width;
  std::vector<std::int32_t> table(blocks), lane_of(lanes);
  std::iota(table.begin(), table.end(), 0);
  std::iota(lane_of.begin(), lane_of.end(), 0);
  std::shuffle(table.begin(), table.end(), random);
  std::shuffle(lane_of.begin(), lane_of.end(), random);
  lane_of.resize(sequences);
  const auto keys = random_values(g.dtype, blocks * 16 * row_values);
  const auto values = random_values(g.dtype, blocks * 16 * row_values);
  KvGatherShape shape;
  shape.sequences = static_cast<std::int32_t>(sequences);
  shape.max_rows = max_rows;
  shape.kv_heads = g.kv_heads;
  shape.head_dim = g.dim;
  shape.max_blocks = static_cast<std::int32_t>(width);
  shape.dtype = g.dtype;
  shape.layout = {16LL * g.kv_heads * g.dim, g.heads_first ? g.dim : g.kv_heads * g.dim,
                  g.heads_first ? 16LL * g.dim : g.dim};
  std::vector<float> want_keys, want_values;
  for (Size s = 0; s < sequences; ++s)
    for (int row = 0; row < g.rows[s]; ++row)
      for (int head = 0; head < g.kv_heads; ++head)
        for (int d = 0; d < g.dim; ++d) {
          const std::int64_t block =
              table[static_cast<Size>(lane_of[s]) * width + static_cast<Size>(row / 16)];
          const auto at = static_cast<Size>(block * shape.layout.block_stride +
                                            row % 16 * shape.layout.token_stride +
                                            head * shape.layout.head_stride + d);
          want_keys.push_back(keys[at]);
          want_values.push_back(values[at]);
        }
  const DeviceBytes dkeys = upload(g.dtype, keys), dvalues = upload(g.dtype, values);
  const DeviceBytes dtable = upload_raw(table), dlanes = upload_raw(lane_of);
  const DeviceBytes dbegin = upload_raw(row_begin);
  const Size count = want_keys.size();
  const DeviceBytes keys_out((count + row_values) * size_of(g.dtype));
  const DeviceBytes values_out((count + row_values) * size_of(g.dtype));
  KvGatherArgs args;
  args.keys = dkeys.get();
  args.values = dvalues.get();
  args.block_table = static_cast<const std::int32_t*>(dtable.get());
  args.lanes = static_cast<const std::int32_t*>(dlanes.get());
  args.row_begin = static_cast<const std::int32_t*>(dbegin.get());
  args.keys_out = keys_out.get();
  args.values_out = values_out.get();
  FACET_CUDA_OK(gather_kv(shape, args, {}));
  FACET_CUDA_OK(cudaDeviceSynchronize());
  const std::string name = name_of(g.dtype) + " " + std::to_string(g.kv_heads) + "x" +
                           std::to_string(g.dim) + (g.heads_first ? " heads first" : "");
  expect_same_bits("gathered keys " + name, download(g.dtype, keys_out, count), want_keys);
  expect_same_bits("gathered values " + name, download(g.dtype, values_out, count), want_values);
  for (const DeviceBytes* out : {&keys_out, &values_out}) {
    const auto all = download(g.dtype, *out, count + row_values);
    for (Size i = count; i < all.size(); ++i) ASSERT_TRUE(std::isnan(all[i])) << "written behind";
  }
}

TEST(KvGather, EqualsThePool) {
  for (const DType dtype : {DType::kBf16, DType::kFp16, DType::kFp32})
    for (const bool heads_first : {true, false}) {
      check(Gather{dtype, 2, 64, heads_first, {1, 16, 17, 0, 333}});
      check(Gather{dtype, 4, 128, heads_first, {1000}});
      check(Gather{dtype, 1, 8, heads_first, {15, 31, 64}});
      check(Gather{dtype, 3, 80, heads_first, {48, 5}});
    }
}

TEST(KvGather, RefusesWhatItCannotDo) {
  KvGatherShape shape;
  shape.sequences = shape.max_rows = shape.kv_heads = shape.max_blocks = 1;
  shape.head_dim = 64;
  shape.layout = {1024, 64, 64};
  const auto refused = [&](auto change) {
    KvGatherShape bad = shape;
    change(bad);
    return gather_kv(bad, {}, {}) == cudaErrorInvalidValue;
  };
  EXPECT_TRUE(refused([](auto& s) { s.head_dim = 12; }));  // no whole 16-byte words
  EXPECT_TRUE(refused([](auto& s) { s.layout.token_stride = 68; }));
  EXPECT_TRUE(refused([](auto& s) { s.max_blocks = 0; }));
  EXPECT_TRUE(refused([](auto& s) { s.sequences = -1; }));
}

}  // namespace
}  // namespace facet::kernels
