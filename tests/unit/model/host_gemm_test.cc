// Every compiled variant of products and attention against plain double arithmetic; and that a
// row's bits do not depend on the rows next to it.
#include "worker/model/host_gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tests/unit/model/host_values.h"
#include "worker/model/host_ops_variants.h"

namespace facet {
namespace {

template <class T>
constexpr double kTolerance = 4e-6;
template <>
constexpr double kTolerance<Bf16> = 1.2e-2;

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// Row-major weights [columns, depth] as panels.
template <class T>
std::vector<T> panels_of(const std::vector<T>& rows, std::int64_t columns, std::int64_t depth) {
  std::vector<T> panels(static_cast<std::size_t>(padded_to_panel(columns) * depth));
  for (std::int64_t column = 0; column < columns; ++column)
    for (std::int64_t k = 0; k < depth; ++k)
      panels[static_cast<std::size_t>((column / kPanel * depth + k) * kPanel + column % kPanel)] =
          rows[static_cast<std::size_t>(column * depth + k)];
  return panels;
}

template <class T>
void check_product(const HostGemm<T>& gemm, std::int64_t rows, std::int64_t columns,
                   std::int64_t depth, bool with_bias) {
  const auto x = random_values<T>(rows * depth, 1);
  const auto w = random_values<T>(columns * depth, 2, 1.0F / std::sqrt(static_cast<float>(depth)));
  const auto bias = random_values<T>(columns, 3);
  const auto panels = panels_of(w, columns, depth);
  std::vector<float> scratch(static_cast<std::size_t>(gemm_scratch(depth)));
  std::vector<T> out(static_cast<std::size_t>(rows * columns));
  GemmTask<T> task{x.data(),   depth,   panels.data(), with_bias ? bias.data() : nullptr,
                   out.data(), columns, depth,         columns};
  const std::int64_t num_panels = padded_to_panel(columns) / kPanel;
  gemm.multiply(task, 0, rows, 0, num_panels, scratch.data());
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t column = 0; column < columns; ++column) {
      const auto n = static_cast<std::size_t>(column);
      double sum = with_bias ? value_of(bias[n]) : 0.0;
      for (std::int64_t k = 0; k < depth; ++k)
        sum += double{value_of(x[static_cast<std::size_t>(row * depth + k)])} *
               value_of(w[static_cast<std::size_t>(column * depth + k)]);
      ASSERT_NEAR(value_of(out[static_cast<std::size_t>(row * columns + column)]), sum,
                  kTolerance<T> * (1.0 + std::abs(sum)))
          << rows << " x " << columns << " x " << depth << " at " << row << ", " << column;
    }
  std::vector<T> alone(out.size());
  task.out = alone.data();
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t panel = 0; panel < num_panels; ++panel)
      gemm.multiply(task, row, row + 1, panel, panel + 1, scratch.data());
  EXPECT_TRUE(same_bits(out, alone)) << "a row alone has other bits than among " << rows;
}

// Query rows over keys and values that lie in shuffled blocks.
template <class T>
struct Heads {
  std::int64_t dim, group, tokens, block_tokens;
  std::vector<std::int32_t> blocks;
  std::vector<T> q, keys, values, pool;

  Heads(std::int64_t head_dim, std::int64_t heads, std::int64_t count, std::int64_t block)
      : dim(head_dim), group(heads), tokens(count), block_tokens(block) {
    const std::int64_t padded = padded_to_panel(dim);
    const std::int64_t used = (tokens + block - 1) / block;
    for (std::int64_t i = 0; i < used; ++i)
      blocks.push_back(static_cast<std::int32_t>((i * 7 + 3) % (7 * used)));
    q = random_values<T>(tokens * group * dim, 4, 2.0F);
    keys = random_values<T>(tokens * dim, 5);
    values = random_values<T>(tokens * dim, 6);
    // What was never written, or was another sequence's, must not be seen.
    pool.assign(static_cast<std::size_t>(2 * 7 * used * block * padded),
                make<T>(std::numeric_limits<float>::quiet_NaN()));
    for (std::int64_t t = 0; t < tokens; ++t) {
      const std::int64_t base = blocks[static_cast<std::size_t>(t / block)] * block * padded;
      T* key = pool.data() + base + t % block;
      T* value = pool.data() + 7 * used * block * padded + base + t % block * padded;
      for (std::int64_t i = 0; i < padded; ++i) value[i] = T{};
      for (std::int64_t i = 0; i < dim; ++i) {
        key[i * block] = keys[static_cast<std::size_t>(t * dim + i)];
        value[i] = values[static_cast<std::size_t>(t * dim + i)];
      }
    }
  }

  AttentionTask<T> task(std::vector<T>& out, bool causal) const {
    AttentionTask<T> task;
    task.q = q.data();
    task.q_stride = group * dim;
    task.out = out.data();
    task.out_stride = group * dim;
    task.group = group;
    task.dim = dim;
    task.scale = 0.3F;
    task.kv.keys = pool.data();
    task.kv.values = pool.data() + pool.size() / 2;
    task.kv.blocks = blocks.data();
    task.kv.panels_per_block = block_tokens / kPanel;
    task.kv.block_stride = block_tokens * padded_to_panel(dim);
    task.kv.key_step = block_tokens;
    task.kv.value_step = padded_to_panel(dim);
    task.visible = causal ? 1 : tokens;
    task.causal = causal;
    return task;
  }

  std::vector<double> expected(std::int64_t row, bool causal) const {
    std::vector<double> sum(static_cast<std::size_t>(dim), 0.0);
    double total = 0.0;
    for (std::int64_t t = 0; t < (causal ? row / group + 1 : tokens); ++t) {
      double score = 0.0;
      for (std::int64_t i = 0; i < dim; ++i)
        score += double{value_of(q[static_cast<std::size_t>(row * dim + i)])} *
                 value_of(keys[static_cast<std::size_t>(t * dim + i)]);
      const double weight = std::exp(0.3 * score);
      total += weight;
      for (std::int64_t i = 0; i < dim; ++i)
        sum[static_cast<std::size_t>(i)] +=
            weight * value_of(values[static_cast<std::size_t>(t * dim + i)]);
    }
    for (double& value : sum) value /= total;
    return sum;
  }
};

template <class T>
void check_attention(const HostGemm<T>& gemm, const Heads<T>& heads, bool causal) {
  const std::int64_t rows = heads.tokens * heads.group;
  std::vector<float> scratch(static_cast<std::size_t>(attention_scratch(heads.dim)));
  std::vector<T> out(heads.q.size());
  gemm.attend(heads.task(out, causal), 0, rows, scratch.data());
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto want = heads.expected(row, causal);
    for (std::size_t i = 0; i < want.size(); ++i)
      ASSERT_NEAR(value_of(out[static_cast<std::size_t>(row) * want.size() + i]), want[i],
                  2 * kTolerance<T> * (1.0 + std::abs(want[i])))
          << heads.tokens << " tokens, row " << row;
  }
  std::vector<T> alone(out.size());
  for (std::int64_t row = 0; row < rows; ++row)
    gemm.attend(heads.task(alone, causal), row, row + 1, scratch.data());
  EXPECT_TRUE(same_bits(out, alone)) << "a row alone has other bits, " << heads.tokens;
}

template <class T>
void check(const HostGemm<T>& gemm) {
  for (const std::int64_t rows : {1, 2, 5, 7, 11, 12, 13, 24, 97, 200})
    check_product(gemm, rows, 50, 33, rows % 2 == 0);
  for (const std::int64_t columns : {1, 15, 16, 17, 31, 32, 33, 70})
    check_product(gemm, 14, columns, 64, true);
  for (const std::int64_t depth : {1, 2, 600}) check_product(gemm, 13, 40, depth, false);
  for (const std::int64_t tokens : {1, 2, 15, 16, 17, 33, 100, 255, 256, 257, 300, 530})
    for (const bool causal : {false, true})
      check_attention(gemm, Heads<T>(24, 3, tokens, 16), causal);
  check_attention(gemm, Heads<T>(80, 1, 70, 48), true);
  check_attention(gemm, Heads<T>(12, 7, 70, 32), true);
  check_attention(gemm, Heads<T>(128, 2, 40, 16), false);
}

void check_variant(const HostVariant& variant) {
  check(*variant.gemm_fp32);
  check(*variant.gemm_bf16);
}

TEST(HostGemm, Base) {
  check_variant(kHostBase);
}

TEST(HostGemm, Avx2) {
  if (has_avx2()) check_variant(kHostAvx2);
}

TEST(HostGemm, Avx512) {
  if (has_avx512()) check_variant(kHostAvx512);
}

}  // namespace
}  // namespace facet
