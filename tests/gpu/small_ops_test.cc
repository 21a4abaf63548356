// Norm, rope, silu and embedding against plain double arithmetic with the reference's roundings.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/activation/silu_mul.h"
#include "kernels/embedding/embed_tokens.h"
#include "kernels/norm/rms_norm.h"
#include "kernels/rope/rope_kv_write.h"
#include "tests/gpu/device_data.h"

namespace facet::kernels {
namespace {

using Size = std::size_t;
constexpr DType kAllTypes[] = {DType::kBf16, DType::kFp16, DType::kFp32};

std::vector<double> norm_of(DType dtype, const std::vector<float>& x, const std::vector<float>& w,
                            Size rows, float eps) {
  const Size width = w.size();
  std::vector<double> out(rows * width);
  for (Size row = 0; row < rows; ++row) {
    double sum = 0;
    for (Size i = 0; i < width; ++i) sum += std::pow(x[row * width + i], 2);
    const double scale = 1.0 / std::sqrt(sum / static_cast<double>(width) + eps);
    for (Size i = 0; i < width; ++i)
      out[row * width + i] = w[i] * round_to(dtype, static_cast<float>(x[row * width + i] * scale));
  }
  return out;
}

Tolerance times(Tolerance tolerance, double factor) {
  return {tolerance.relative * factor, tolerance.absolute * factor};
}

TEST(SmallOps, RmsNorm) {
  for (const DType dtype : kAllTypes)
    for (const Size width : {8, 224, 1280, 3584, 3840, 16384})
      for (const Size rows : {1, 7, 64}) {
        const auto x = random_values(dtype, rows * width, 3.0F);
        const auto w = random_values(dtype, width);
        const DeviceBytes dx = upload(dtype, x), dw = upload(dtype, w);
        const DeviceBytes out(rows * width * size_of(dtype));
        RmsNormShape shape;
        shape.rows = static_cast<std::int64_t>(rows);
        shape.width = static_cast<std::int32_t>(width);
        shape.dtype = dtype;
        FACET_CUDA_OK(rms_norm(shape, dx.get(), dw.get(), out.get(), {}));
        FACET_CUDA_OK(cudaDeviceSynchronize());
        expect_close(
            "rms_norm " + name_of(dtype) + " " + std::to_string(rows) + "x" + std::to_string(width),
            download(dtype, out, rows * width), norm_of(dtype, x, w, rows, shape.eps),
            times(one_ulp(dtype), 2));
      }
}

TEST(SmallOps, AddRmsNormAndAddInto) {
  for (const DType dtype : kAllTypes) {
    const Size rows = 5, width = 3584;
    const auto x = random_values(dtype, rows * width);
    const auto hidden = random_values(dtype, rows * width, 8.0F);
    const auto w = random_values(dtype, width);
    const DeviceBytes dx = upload(dtype, x), dw = upload(dtype, w);
    const DeviceBytes dh = upload(dtype, hidden), dh2 = upload(dtype, hidden);
    const DeviceBytes out(rows * width * size_of(dtype));
    RmsNormShape shape;
    shape.rows = rows;
    shape.width = width;
    shape.dtype = dtype;
    FACET_CUDA_OK(add_rms_norm(shape, dh.get(), dx.get(), dw.get(), out.get(), {}));
    FACET_CUDA_OK(add_into(dtype, dh2.get(), dx.get(), rows * width, {}));
    FACET_CUDA_OK(cudaDeviceSynchronize());
    std::vector<float> sum(x.size());
    for (Size i = 0; i < x.size(); ++i) sum[i] = round_to(dtype, hidden[i] + x[i]);
    expect_same_bits("add_rms_norm " + name_of(dtype) + ": hidden",
                     download(dtype, dh, rows * width), sum);
    expect_same_bits("add_into " + name_of(dtype), download(dtype, dh2, rows * width), sum);
    expect_close("add_rms_norm " + name_of(dtype), download(dtype, out, rows * width),
                 norm_of(dtype, sum, w, rows, shape.eps), times(one_ulp(dtype), 2));
  }
}

TEST(SmallOps, SiluMul) {
  for (const DType dtype : kAllTypes)
    for (const Size width : {1, 37, 640, 3420, 18944}) {
      const Size rows = 3;
      const auto x = random_values(dtype, rows * 2 * width, 4.0F);
      const DeviceBytes dx = upload(dtype, x);
      const DeviceBytes out(rows * width * size_of(dtype));
      FACET_CUDA_OK(
          silu_mul(dtype, dx.get(), out.get(), rows, static_cast<std::int64_t>(width), {}));
      FACET_CUDA_OK(cudaDeviceSynchronize());
      std::vector<double> want(rows * width);
      for (Size i = 0; i < want.size(); ++i) {
        const double gate = x[i / width * 2 * width + i % width];
        want[i] = round_to(dtype, static_cast<float>(gate / (1 + std::exp(-gate)))) *
                  static_cast<double>(x[i / width * 2 * width + width + i % width]);
      }
      expect_close("silu_mul " + name_of(dtype) + " width " + std::to_string(width),
                   download(dtype, out, want.size()), want, times(one_ulp(dtype), 2));
    }
}

TEST(SmallOps, EmbeddingAndGather) {
  const DType dtype = DType::kBf16;
  const Size vocab = 501, width = 3584, pool = 40;
  const auto table = random_values(dtype, vocab * width);
  const auto images = random_values(dtype, pool * width);
  const std::vector<std::int32_t> chosen = {44, 9};
  const std::vector<std::int32_t> ids = {0, 500, 17, 501, ~1, 3, 250};
  const std::vector<std::int32_t> image_row = {-1, -1, 39, -1, -1, 0, -1};
  const DeviceBytes dt = upload(dtype, table), di = upload(dtype, images);
  const DeviceBytes dids = upload_raw(ids), dimages = upload_raw(image_row);
  const DeviceBytes dchosen = upload_raw(chosen);
  const DeviceBytes out(ids.size() * width * 2), gathered(3 * width * 2);
  EmbedArgs args;
  args.table = dt.get();
  args.images = di.get();
  args.token_ids = static_cast<const std::int32_t*>(dids.get());
  args.chosen = static_cast<const std::int32_t*>(dchosen.get());
  args.image_row = static_cast<const std::int32_t*>(dimages.get());
  args.out = out.get();
  FACET_CUDA_OK(embed_tokens(dtype, args, static_cast<std::int64_t>(ids.size()), width, vocab, {}));
  const DeviceBytes index = upload_raw(std::vector<std::int32_t>{6, 0, 2});
  FACET_CUDA_OK(gather_rows(dtype, out.get(), static_cast<const std::int32_t*>(index.get()),
                            gathered.get(), 3, width, {}));
  FACET_CUDA_OK(cudaDeviceSynchronize());
  std::vector<float> want(ids.size() * width, 0.0F), want_rows;
  for (Size r = 0; r < ids.size(); ++r)
    for (Size i = 0; i < width; ++i) {
      const std::int32_t id = ids[r] < 0 ? chosen[static_cast<Size>(~ids[r])] : ids[r];
      if (image_row[r] >= 0)
        want[r * width + i] = images[static_cast<Size>(image_row[r]) * width + i];
      else if (id < static_cast<int>(vocab))
        want[r * width + i] = table[static_cast<Size>(id) * width + i];
    }
  for (const Size r : {6, 0, 2})
    want_rows.insert(want_rows.end(), want.begin() + static_cast<std::ptrdiff_t>(r * width),
                     want.begin() + static_cast<std::ptrdiff_t>((r + 1) * width));
  expect_same_bits("embed_tokens", download(dtype, out, want.size()), want);
  expect_same_bits("gather_rows", download(dtype, gathered, want_rows.size()), want_rows);
}

struct RopeCase {
  DType dtype;
  int heads, kv_heads, dim;
  bool bias;
  bool heads_first;  // KV layout
};

// Rows of several lanes at scattered positions, checked in qkv and in the pool, where every place
// that was not written must keep its poison.
void check_rope(const RopeCase& c) {
  const Size rows = 6, max_blocks = 5, blocks = 40;
  const Size dim = static_cast<Size>(c.dim), half = dim / 2;
  const Size kv = static_cast<Size>(c.kv_heads), heads = static_cast<Size>(c.heads);
  const Size packed = (heads + 2 * kv) * dim, stride = packed + 24;
  const auto x = random_values(c.dtype, rows * stride, 2.0F);
  const auto bias = random_values(c.dtype, packed);
  std::vector<float> frequencies(half);
  for (Size i = 0; i < half; ++i)
    frequencies[i] =
        static_cast<float>(std::pow(1e6, -2.0 * static_cast<double>(i) / static_cast<double>(dim)));
  std::mt19937 random(next_seed());
  std::vector<std::int32_t> positions, lanes = {2, 0, 1, -1, 3, 3}, index = {0, 79, 33, 5, 16, 17};
  for (Size i = 0; i < rows * 3; ++i) positions.push_back(static_cast<int>(random() % 30000));
  std::vector<std::int32_t> table(4 * max_blocks);
  for (Size i = 0; i < table.size(); ++i) table[i] = static_cast<int>((i * 7 + 3) % blocks);
  const DeviceBytes dx = upload(c.dtype, x), db = upload(c.dtype, bias);
  const DeviceBytes df = upload_raw(frequencies), dp = upload_raw(positions);
  const DeviceBytes dl = upload_raw(lanes), di = upload_raw(index), dt = upload_raw(table);
  const Size pool = blocks * 16 * kv * dim;
  const DeviceBytes keys(pool * size_of(c.dtype)), values(pool * size_of(c.dtype));
  RopeShape shape;
  shape.rows = rows;
  shape.heads = c.heads;
  shape.kv_heads = c.kv_heads;
  shape.head_dim = c.dim;
  shape.sections[0] = static_cast<int>(half) / 4;
  shape.sections[1] = static_cast<int>(half) * 3 / 8;
  shape.sections[2] = static_cast<int>(half) - shape.sections[0] - shape.sections[1];
  shape.max_blocks = max_blocks;
  shape.dtype = c.dtype;
  const auto d64 = static_cast<std::int64_t>(dim), k64 = static_cast<std::int64_t>(kv);
  shape.layout = c.heads_first ? KvLayout{16 * k64 * d64, d64, 16 * d64}
                               : KvLayout{16 * k64 * d64, k64 * d64, d64};
  RopeArgs args;
  args.qkv = dx.get();
  args.qkv_stride = static_cast<std::int64_t>(stride);
  args.bias = c.bias ? db.get() : nullptr;
  args.frequencies = static_cast<const float*>(df.get());
  args.positions = static_cast<const std::int32_t*>(dp.get());
  args.keys = keys.get();
  args.values = values.get();
  args.block_table = static_cast<const std::int32_t*>(dt.get());
  args.row_lane = static_cast<const std::int32_t*>(dl.get());
  args.row_index = static_cast<const std::int32_t*>(di.get());
  FACET_CUDA_OK(rope_kv_write(shape, args, {}));
  FACET_CUDA_OK(cudaDeviceSynchronize());

  const auto r = [&](double v) { return round_to(c.dtype, static_cast<float>(v)); };
  std::vector<double> want(x.begin(), x.end());
  for (Size row = 0; row < rows; ++row)
    for (Size head = 0; head < heads + 2 * kv; ++head) {
      double* at = want.data() + row * stride + head * dim;
      if (c.bias)
        for (Size i = 0; i < dim; ++i) at[i] = r(at[i] + bias[head * dim + i]);
      if (head >= heads + kv) continue;
      for (Size i = 0; i < half; ++i) {
        const auto pair = static_cast<int>(i);
        const int axis = pair < shape.sections[0]                       ? 0
                         : pair < shape.sections[0] + shape.sections[1] ? 1
                                                                        : 2;
        const float angle =
            frequencies[i] * static_cast<float>(positions[row * 3 + static_cast<Size>(axis)]);
        const double cs = r(std::cos(static_cast<double>(angle)));
        const double sn = r(std::sin(static_cast<double>(angle)));
        const double a = at[i], b = at[half + i];
        at[i] = r(r(a * cs) - r(b * sn));
        at[half + i] = r(r(b * cs) + r(a * sn));
      }
    }
  const auto got = download(c.dtype, dx, rows * stride);
  const std::string what = "rope " + name_of(c.dtype) + " " + std::to_string(c.heads) + "/" +
                           std::to_string(c.kv_heads) + "x" + std::to_string(c.dim) +
                           (c.bias ? " bias" : "") + (c.heads_first ? " heads first" : "");
  // A cosine one unit off moves a product by a unit, and its place in the sum may have cancelled.
  const Tolerance tolerance = {one_ulp(c.dtype).relative * 2,
                               c.dtype == DType::kFp32 ? 1e-5 : one_ulp(c.dtype).relative * 6};
  expect_close(what, got, want, tolerance);

  const auto got_keys = download(c.dtype, keys, pool), got_values = download(c.dtype, values, pool);
  std::vector<float> kv_got, kv_want;
  Size written = 0;
  for (const auto* side : {&got_keys, &got_values})
    for (const float v : *side) written += std::isnan(v) ? 0 : 1;
  for (Size row = 0; row < rows; ++row) {
    if (lanes[row] < 0) continue;
    const Size block = static_cast<Size>(
        table[static_cast<Size>(lanes[row]) * max_blocks + static_cast<Size>(index[row]) / 16]);
    for (Size head = 0; head < kv; ++head)
      for (Size i = 0; i < dim; ++i) {
        const Size at =
            block * static_cast<Size>(shape.layout.block_stride) +
            static_cast<Size>(index[row]) % 16 * static_cast<Size>(shape.layout.token_stride) +
            head * static_cast<Size>(shape.layout.head_stride) + i;
        const float* packed_row = got.data() + row * stride;
        kv_got.push_back(got_keys[at]);
        kv_want.push_back(packed_row[(heads + head) * dim + i]);
        kv_got.push_back(got_values[at]);
        kv_want.push_back(packed_row[(heads + kv + head) * dim + i]);
      }
  }
  expect_same_bits(what + ": pool", kv_got, kv_want);
  EXPECT_EQ(written, kv_got.size()) << "places of the pool written besides those asked for";
}

TEST(SmallOps, RopeKvWrite) {
  check_rope({DType::kBf16, 28, 4, 128, true, false});
  check_rope({DType::kBf16, 28, 4, 128, false, true});
  check_rope({DType::kBf16, 7, 1, 32, true, true});
  check_rope({DType::kBf16, 16, 8, 256, false, false});
  check_rope({DType::kFp32, 7, 1, 32, true, false});
  check_rope({DType::kFp16, 16, 2, 128, true, false});
  check_rope({DType::kBf16, 3, 1, 80, true, true});
}

// fp16 overflows: what a query or key of infinity would hide is not a number.
TEST(SmallOps, RopeThatOverflows) {
  const Size dim = 32, stride = 3 * dim, half = dim / 2;
  std::vector<float> qkv(2 * stride, 1.0F);
  for (const Size at : {Size{0}, half, stride + dim, stride + dim + half}) qkv[at] = 60000.0F;
  const DeviceBytes data = upload(DType::kFp16, qkv);
  const DeviceBytes angle = upload_raw(std::vector<float>(2 * half, std::sqrt(0.5F)));
  const auto* turn = static_cast<const float*>(angle.get());
  FACET_CUDA_OK(rope_vision(DType::kFp16, data.get(), stride, turn, turn, 2, 1, 32, {}));
  FACET_CUDA_OK(cudaDeviceSynchronize());
  const auto got = download(DType::kFp16, data, qkv.size());
  for (Size i = 0; i < got.size(); ++i)
    EXPECT_EQ(std::isnan(got[i]), i == half || i == stride + dim + half) << i << ": " << got[i];
}

TEST(SmallOps, RopeVision) {
  const Size rows = 9, heads = 16, dim = 80, half = 40, stride = 3 * heads * dim;
  for (const DType dtype : kAllTypes) {
    const auto x = random_values(dtype, rows * stride);
    auto angle = random_values(DType::kFp32, rows * half, 10.0F);
    std::vector<float> cosines, sines;
    for (const float a : angle) {
      cosines.push_back(std::cos(a));
      sines.push_back(std::sin(a));
    }
    const DeviceBytes dx = upload(dtype, x);
    const DeviceBytes dc = upload_raw(cosines), ds = upload_raw(sines);
    FACET_CUDA_OK(rope_vision(dtype, dx.get(), stride, static_cast<const float*>(dc.get()),
                              static_cast<const float*>(ds.get()), rows, heads, dim, {}));
    FACET_CUDA_OK(cudaDeviceSynchronize());
    std::vector<double> want(x.begin(), x.end());
    for (Size row = 0; row < rows; ++row)
      for (Size head = 0; head < 2 * heads; ++head)
        for (Size i = 0; i < half; ++i) {
          double& low = want[row * stride + head * dim + i];
          double& high = want[row * stride + head * dim + half + i];
          const double a = low, b = high, c = cosines[row * half + i], s = sines[row * half + i];
          low = a * c - b * s;
          high = b * c + a * s;
        }
    expect_close("rope_vision " + name_of(dtype), download(dtype, dx, x.size()), want,
                 one_ulp(dtype));
  }
}

TEST(SmallOps, RefusesShapesOutsideOfItsContract) {
  RmsNormShape norm;
  norm.rows = 1;
  norm.width = 12;
  EXPECT_EQ(cudaErrorInvalidValue, rms_norm(norm, nullptr, nullptr, nullptr, {}));
  EXPECT_EQ(cudaErrorInvalidValue, add_into(DType::kBf16, nullptr, nullptr, 4, {}));
  EXPECT_EQ(cudaErrorInvalidValue, embed_tokens(DType::kBf16, {}, 1, 4, 10, {}));
  RopeShape rope;
  rope.rows = 1;
  rope.heads = 1;
  rope.head_dim = 24;
  EXPECT_EQ(cudaErrorInvalidValue, rope_kv_write(rope, {}, {}));
}

}  // namespace
}  // namespace facet::kernels
