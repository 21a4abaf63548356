// Paged decode attention against double arithmetic: lengths far apart, both layouts, windows, odd
// groups; the same bits again; one captured graph for changing lengths.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "kernels/attention/paged_decode_attention.h"
#include "tests/gpu/device_data.h"

namespace facet::kernels {
namespace {

using Size = std::size_t;

struct Case {
  DType dtype;
  int heads, kv_heads, dim, window;
  bool heads_first;
  std::vector<int> lengths;
};

// A batch on the device, its pool shuffled over blocks; places that no lane holds are NaN.
class Batch {
 public:
  explicit Batch(const Case& c) : c_(c), shape_(shape_of(c)) {
    const Size lanes = c.lengths.size(), width = static_cast<Size>(shape_.max_blocks);
    const Size blocks = lanes * width + 3;
    std::vector<std::int32_t> order(blocks);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(next_seed()));
    table_.assign(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(lanes * width));
    const Size per_block = 16U * static_cast<Size>(c.kv_heads * c.dim);
    stride_ = static_cast<Size>((c.heads + 2 * c.kv_heads) * c.dim);
    q_ = random_values(c.dtype, lanes * stride_);
    keys_ = random_values(c.dtype, blocks * per_block);
    values_ = random_values(c.dtype, blocks * per_block);
    for (Size lane = 0; lane < lanes; ++lane)
      for (int at = c.lengths[lane]; at < shape_.max_blocks * 16; ++at)
        for (int h = 0; h < c.kv_heads; ++h)
          for (int d = 0; d < c.dim; ++d)
            keys_[place(lane, at, h, d)] = values_[place(lane, at, h, d)] = NAN;
  }

  Size place(Size lane, int at, int head, int d) const {
    const std::int64_t block =
        table_[lane * static_cast<Size>(shape_.max_blocks) + static_cast<Size>(at / 16)];
    const KvLayout& layout = shape_.layout;
    return static_cast<Size>(block * layout.block_stride + at % 16 * layout.token_stride +
                             head * layout.head_stride + d);
  }

  std::vector<double> oracle() const {
    const int group = c_.heads / c_.kv_heads;
    std::vector<double> out;
    for (Size lane = 0; lane < c_.lengths.size(); ++lane)
      for (int head = 0; head < c_.heads; ++head) {
        const auto one = attend(lane, head, head / group);
        out.insert(out.end(), one.begin(), one.end());
      }
    return out;
  }

  std::vector<float> compute(int times = 1) const {
    const DeviceBytes q = upload(c_.dtype, q_), keys = upload(c_.dtype, keys_);
    const DeviceBytes values = upload(c_.dtype, values_), table = upload_raw(table_);
    const DeviceBytes lengths = upload_raw(std::vector<std::int32_t>(c_.lengths));
    DeviceBytes workspace(paged_decode_workspace_bytes(shape_));
    workspace.zero();
    const Size count = c_.lengths.size() * static_cast<Size>(c_.heads * c_.dim);
    DeviceBytes out(count * size_of(c_.dtype));
    for (int i = 0; i < times; ++i) {
      out.poison();
      check_cuda(paged_decode_attention(
                     shape_, args_of(q, keys, values, table, lengths, out, workspace), {}),
                 "paged_decode_attention");
      check_cuda(cudaDeviceSynchronize(), "paged_decode_attention");
    }
    return download(c_.dtype, out, count);
  }

  // By a graph that was captured for other lengths; the new ones are copied in behind its back.
  std::vector<float> replay(const std::vector<int>& captured_for) const {
    const DeviceBytes q = upload(c_.dtype, q_), keys = upload(c_.dtype, keys_);
    const DeviceBytes values = upload(c_.dtype, values_), table = upload_raw(table_);
    const DeviceBytes lengths = upload_raw(std::vector<std::int32_t>(captured_for));
    DeviceBytes workspace(paged_decode_workspace_bytes(shape_));
    workspace.zero();
    const Size count = c_.lengths.size() * static_cast<Size>(c_.heads * c_.dim);
    const DeviceBytes out(count * size_of(c_.dtype));
    cudaStream_t stream = nullptr;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    check_cuda(cudaStreamCreate(&stream), "stream");
    // Its code is loaded by a launch outside of the capture.
    const auto args = args_of(q, keys, values, table, lengths, out, workspace);
    check_cuda(paged_decode_attention(shape_, args, {stream, false}), "first launch");
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
    for (int i = 0; i < 3; ++i)
      check_cuda(paged_decode_attention(shape_, args, {stream, i > 0}), "captured launch");
    check_cuda(cudaStreamEndCapture(stream, &graph), "end of capture");
    check_cuda(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
    check_cuda(cudaGraphLaunch(exec, stream), "replay");
    check_cuda(cudaMemcpyAsync(lengths.get(), c_.lengths.data(), c_.lengths.size() * sizeof(int),
                               cudaMemcpyHostToDevice, stream),
               "new lengths");
    check_cuda(cudaGraphLaunch(exec, stream), "replay");
    check_cuda(cudaStreamSynchronize(stream), "replay");
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
    return download(c_.dtype, out, count);
  }

 private:
  static PagedDecodeShape shape_of(const Case& c) {
    PagedDecodeShape s;
    s.lanes = static_cast<int>(c.lengths.size());
    s.heads = c.heads;
    s.kv_heads = c.kv_heads;
    s.head_dim = c.dim;
    s.max_blocks = (*std::max_element(c.lengths.begin(), c.lengths.end()) + 15) / 16 + 1;
    s.window = c.window;
    s.scale = 1.0F / std::sqrt(static_cast<float>(c.dim));
    s.dtype = c.dtype;
    s.layout.block_stride = 16LL * c.kv_heads * c.dim;
    s.layout.token_stride = c.heads_first ? c.dim : c.kv_heads * c.dim;
    s.layout.head_stride = c.heads_first ? 16LL * c.dim : c.dim;
    return s;
  }

  PagedDecodeArgs args_of(const DeviceBytes& q, const DeviceBytes& keys, const DeviceBytes& values,
                          const DeviceBytes& table, const DeviceBytes& lengths,
                          const DeviceBytes& out, const DeviceBytes& workspace) const {
    return {q.get(),
            static_cast<std::int64_t>(stride_),
            keys.get(),
            values.get(),
            static_cast<const std::int32_t*>(table.get()),
            static_cast<const std::int32_t*>(lengths.get()),
            out.get(),
            workspace.get()};
  }

  std::vector<double> attend(Size lane, int head, int kv_head) const {
    const int length = c_.lengths[lane];
    const int first = c_.window > 0 ? std::max(0, length - c_.window) : 0;
    const float* q = q_.data() + lane * stride_ + static_cast<Size>(head * c_.dim);
    std::vector<double> out(static_cast<Size>(c_.dim), 0.0), scores;
    double top = -INFINITY, total = 0;
    for (int at = first; at < length; ++at) {
      double score = 0;
      for (int d = 0; d < c_.dim; ++d)
        score += static_cast<double>(q[d]) * keys_[place(lane, at, kv_head, d)];
      scores.push_back(score * shape_.scale);
      top = std::max(top, scores.back());
    }
    for (double& score : scores) total += score = std::exp(score - top);
    for (int at = first; at < length; ++at)
      for (int d = 0; d < c_.dim; ++d)
        out[static_cast<Size>(d)] +=
            scores[static_cast<Size>(at - first)] / total * values_[place(lane, at, kv_head, d)];
    return out;
  }

  Case c_;
  PagedDecodeShape shape_;
  std::vector<std::int32_t> table_;
  Size stride_ = 0;
  std::vector<float> q_, keys_, values_;
};

std::string name_of(const Case& c) {
  return "paged_decode " + kernels::name_of(c.dtype) + " " + std::to_string(c.heads) + "/" +
         std::to_string(c.kv_heads) + "x" + std::to_string(c.dim) + " window " +
         std::to_string(c.window) + (c.heads_first ? " heads first, " : ", ") +
         std::to_string(c.lengths.size()) + " lanes";
}

// Probabilities are rounded to the type before they weigh the values; values are about 1 in size.
Tolerance tolerance_of(DType dtype) {
  if (dtype == DType::kFp32) return {1e-5, 1e-5};
  return dtype == DType::kFp16 ? Tolerance{0.0015, 0.00075} : Tolerance{0.012, 0.006};
}

void check(const Case& c) {
  const Batch batch(c);
  const auto once = batch.compute();
  expect_close(name_of(c), once, batch.oracle(), tolerance_of(c.dtype));
  expect_same_bits(name_of(c) + ", again", batch.compute(3), once);
}

std::vector<int> random_lengths(Size lanes, int most) {
  std::mt19937 random(next_seed());
  std::vector<int> lengths(lanes);
  for (int& length : lengths) length = static_cast<int>(random() % static_cast<unsigned>(most + 1));
  return lengths;
}

void check_type(DType t) {
  for (const bool heads_first : {false, true}) {
    check({t, 28, 4, 128, 0, heads_first, {1}});
    check({t, 28, 4, 128, 0, heads_first, {1000}});
    check({t, 28, 4, 128, 0, heads_first, {0, 16, 17, 1, 15, 0, 333, 2500}});
    check({t, 16, 2, 128, 0, heads_first, random_lengths(33, 700)});
    check({t, 7, 1, 32, 0, heads_first, random_lengths(9, 300)});
    check({t, 16, 8, 256, 100, heads_first, random_lengths(12, 400)});
    check({t, 16, 8, 256, 0, heads_first, {1, 777}});
  }
  check({t, 28, 4, 128, 0, true, {12000, 3, 40, 900}});
  check({t, 8, 8, 64, 0, true, random_lengths(5, 200)});
  check({t, 6, 2, 80, 33, true, random_lengths(5, 200)});
  check({t, 10, 5, 96, 16, false, random_lengths(6, 200)});
  check({t, 40, 2, 128, 0, false, random_lengths(6, 200)});  // groups of 20: three tiles
  check({t, 4, 4, 128, 1, false, {50, 1, 0}});
  check({t, 28, 4, 128, 0, true, random_lengths(300, 60)});
}

TEST(PagedDecode, EqualsDoubleArithmetic) {
  check_type(DType::kBf16);
  check_type(DType::kFp16);
  check({DType::kFp32, 7, 1, 32, 0, false, random_lengths(5, 300)});
  check({DType::kFp32, 28, 4, 128, 50, true, random_lengths(3, 200)});
}

TEST(PagedDecode, AllLanesEmpty) {
  const Batch batch({DType::kBf16, 28, 4, 128, 0, false, {0, 0, 0}});
  expect_same_bits("paged_decode of empty lanes", batch.compute(),
                   std::vector<float>(3 * 28 * 128, 0.0F));
}

TEST(PagedDecode, OneGraphServesAllLengths) {
  for (const DType dtype : {DType::kBf16, DType::kFp16}) {
    const Batch batch({dtype, 28, 4, 128, 0, true, {700, 0, 33, 1500, 1}});
    expect_same_bits("paged_decode by a graph captured for other lengths",
                     batch.replay({1, 16, 0, 9, 400}), batch.compute());
  }
}

TEST(PagedDecode, RefusesShapesOutsideOfItsContract) {
  PagedDecodeShape shape;
  shape.lanes = 1;
  shape.heads = 6;
  shape.kv_heads = 4;
  shape.head_dim = 128;
  shape.max_blocks = 1;
  EXPECT_EQ(cudaErrorInvalidValue, paged_decode_attention(shape, {}, {}));
}

}  // namespace
}  // namespace facet::kernels
