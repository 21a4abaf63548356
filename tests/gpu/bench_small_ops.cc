// The operations between the products, at decode and prefill sizes.
#include "kernels/activation/silu_mul.h"
#include "kernels/embedding/embed_tokens.h"
#include "kernels/norm/rms_norm.h"
#include "kernels/rope/rope_kv_write.h"
#include "tests/gpu/bench.h"

namespace facet::kernels::bench {
namespace {

constexpr int kLaunches = 20;
constexpr std::size_t kHidden = 3584;
constexpr std::size_t kInter = 18944;
constexpr std::size_t kPacked = 4608;

void bench_rope(Bench& bench, int rows) {
  const auto count = static_cast<std::size_t>(rows);
  const DeviceBytes qkv = random_bf16(count * kPacked, 1.0F), bias = random_bf16(kPacked, 1.0F);
  const DeviceBytes frequencies = upload_raw(std::vector<float>(64, 0.01F));
  const DeviceBytes positions = upload_raw(std::vector<std::int32_t>(count * 3, 777));
  const int blocks = (rows + 15) / 16;
  std::vector<std::int32_t> table, lanes(count, 0), index;
  for (int i = 0; i < blocks; ++i) table.push_back(i);
  for (int i = 0; i < rows; ++i) index.push_back(i);
  const DeviceBytes dtable = upload_raw(table), dlanes = upload_raw(lanes);
  const DeviceBytes dindex = upload_raw(index);
  const auto pool = static_cast<std::size_t>(blocks) * 16 * 512;
  const DeviceBytes keys(pool * 2), values(pool * 2);
  RopeShape shape;
  shape.rows = rows;
  shape.heads = 28;
  shape.kv_heads = 4;
  shape.head_dim = 128;
  shape.sections[0] = 16;
  shape.sections[1] = shape.sections[2] = 24;
  shape.max_blocks = blocks;
  shape.layout = {16 * 512, 128, 16 * 128};
  const auto ints = [](const DeviceBytes& d) { return static_cast<const std::int32_t*>(d.get()); };
  const RopeArgs args{qkv.get(),       static_cast<std::int64_t>(kPacked),
                      bias.get(),      static_cast<const float*>(frequencies.get()),
                      ints(positions), keys.get(),
                      values.get(),    ints(dtable),
                      ints(dlanes),    ints(dindex)};
  bench.add("rope_kv_write " + std::to_string(rows) + " rows",
            bench.time(kLaunches,
                       [&](int) {
                         return rope_kv_write(shape, args, {bench.stream(), true});
                       }),
            static_cast<double>(count) * (2 * kPacked + 1024) * 2);
}

}  // namespace

void bench_small_ops(Bench& bench) {
  for (const int rows : {1, 64, 2048}) {
    const auto count = static_cast<std::size_t>(rows);
    const DeviceBytes hidden = random_bf16(count * kHidden, 1.0F);
    const DeviceBytes x = random_bf16(count * kHidden, 1.0F), w = random_bf16(kHidden, 1.0F);
    const DeviceBytes out(count * kHidden * 2);
    const DeviceBytes gate_up = random_bf16(count * 2 * kInter, 1.0F), inner(count * kInter * 2);
    RmsNormShape shape;
    shape.rows = rows;
    shape.width = kHidden;
    const std::string suffix = " " + std::to_string(rows) + " rows";
    const auto add = [&](const char* name, double bytes, const auto& launch) {
      bench.add(name + suffix, bench.time(kLaunches, [&](int) { return launch(); }), bytes);
    };
    const Launch launch{bench.stream(), true};
    const double row_bytes = static_cast<double>(count * kHidden) * 2;
    add("rms_norm", 2 * row_bytes,
        [&] { return rms_norm(shape, x.get(), w.get(), out.get(), launch); });
    add("add_rms_norm", 4 * row_bytes,
        [&] { return add_rms_norm(shape, hidden.get(), x.get(), w.get(), out.get(), launch); });
    add("silu_mul", static_cast<double>(count * kInter) * 6,
        [&] { return silu_mul(DType::kBf16, gate_up.get(), inner.get(), rows, kInter, launch); });
    bench_rope(bench, rows);
  }
}

}  // namespace facet::kernels::bench
