// Paged decode attention over pools larger than the L2 cache, in both layouts.
#include <numeric>

#include "kernels/attention/paged_decode_attention.h"
#include "tests/gpu/bench.h"

namespace facet::kernels::bench {
namespace {

struct Model {
  const char* name;
  int heads, kv_heads, dim, window;
};
constexpr Model kModels[] = {{"7B", 28, 4, 128, 0},
                             {"3B", 16, 2, 128, 0},
                             {"Gemma global", 16, 8, 256, 0},
                             {"Gemma local", 16, 8, 256, 1024}};

struct Load {
  const char* name;
  std::vector<int> lengths;
};

void run(Bench& bench, const Model& model, const Load& load, bool heads_first) {
  constexpr int kLaunches = 12;
  PagedDecodeShape shape;
  shape.lanes = static_cast<int>(load.lengths.size());
  shape.heads = model.heads;
  shape.kv_heads = model.kv_heads;
  shape.head_dim = model.dim;
  shape.window = model.window;
  shape.scale = 0.088F;
  std::int64_t blocks = 0;
  double tokens = 0;
  for (const int length : load.lengths) {
    shape.max_blocks = std::max(shape.max_blocks, (length + 15) / 16);
    blocks += (length + 15) / 16;
    tokens += model.window > 0 ? std::min(model.window, length) : length;
  }
  const std::int64_t row = static_cast<std::int64_t>(model.kv_heads) * model.dim;
  shape.layout.block_stride = 16 * row;
  shape.layout.token_stride = heads_first ? model.dim : row;
  shape.layout.head_stride = heads_first ? 16 * model.dim : model.dim;
  std::vector<std::int32_t> table(load.lengths.size() * static_cast<std::size_t>(shape.max_blocks));
  std::int64_t next = 0;
  for (std::size_t lane = 0; lane < load.lengths.size(); ++lane)
    for (int i = 0; i < (load.lengths[lane] + 15) / 16; ++i)  // 48271 walks over all blocks
      table[lane * static_cast<std::size_t>(shape.max_blocks) + static_cast<std::size_t>(i)] =
          static_cast<int>(next++ * 48271 % blocks);
  const auto pool_bytes = static_cast<std::size_t>(blocks * 16 * row * 2);
  const Rotation keys(pool_bytes, 1.0F, 300U << 20), values(pool_bytes, 1.0F, 300U << 20);
  const std::int64_t q_stride = (model.heads + 2 * model.kv_heads) * model.dim;
  const DeviceBytes q = random_bf16(load.lengths.size() * static_cast<std::size_t>(q_stride), 1.0F);
  const DeviceBytes out(load.lengths.size() * static_cast<std::size_t>(model.heads * model.dim) *
                        2);
  const DeviceBytes dtable = upload_raw(table), lengths = upload_raw(load.lengths);
  DeviceBytes workspace(paged_decode_workspace_bytes(shape));
  workspace.zero();
  const double us = bench.time(kLaunches, [&](int i) {
    return paged_decode_attention(
        shape,
        {q.get(), q_stride, keys.at(i), values.at(i),
         static_cast<const std::int32_t*>(dtable.get()),
         static_cast<const std::int32_t*>(lengths.get()), out.get(), workspace.get()},
        {bench.stream(), true});
  });
  bench.add(std::string("attention ") + model.name + " " + load.name +
                (heads_first ? ", heads first" : ", tokens first"),
            us, tokens * static_cast<double>(row) * 4);
}

}  // namespace

void bench_attention(Bench& bench) {
  std::vector<int> mixed(32, 4096);
  mixed[5] = 32768;
  std::vector<int> ragged(64);
  for (int i = 0; i < 64; ++i) ragged[static_cast<std::size_t>(i)] = 64 + i * 37 % 64 * 30;
  const Load loads[] = {{"1 x 896", {896}},
                        {"1 x 8192", {8192}},
                        {"1 x 32768", {32768}},
                        {"8 x 896", std::vector<int>(8, 896)},
                        {"64 x 896", std::vector<int>(64, 896)},
                        {"64 x 64..1954", ragged},
                        {"31 x 4096 + 32768", mixed}};
  for (const Model& model : kModels)
    for (const Load& load : loads) {
      if (model.dim == 256 && load.lengths.size() == 64 && load.lengths[0] != 896) continue;
      run(bench, model, load, true);
      if (model.dim == 128) run(bench, model, load, false);
    }
}

}  // namespace facet::kernels::bench
