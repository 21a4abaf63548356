#include "kernels/attention/kv_gather.h"
#include "kernels/base/device.cuh"
#include "kernels/base/launch.cuh"

namespace facet::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kRowsOfBlock = 16;

// Strides in 16-byte words.
struct Words {
  std::int64_t block = 0, token = 0, head = 0;
  int of_head = 0;
};

__global__ void gather_kernel(KvGatherArgs args, Words words, int kv_heads, int max_blocks) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int sequence = static_cast<int>(blockIdx.y);
  const int begin = args.row_begin[sequence];
  const int rows = args.row_begin[sequence + 1] - begin;
  const int first = static_cast<int>(blockIdx.x) * kRowsOfBlock;
  if (first >= rows) return;
  const std::int32_t* table =
      args.block_table + static_cast<std::int64_t>(args.lanes[sequence]) * max_blocks;
  const int row_words = kv_heads * words.of_head;
  const int count = min(kRowsOfBlock, rows - first) * row_words;
  const auto* keys = static_cast<const uint4*>(args.keys);
  const auto* values = static_cast<const uint4*>(args.values);
  auto* keys_out = static_cast<uint4*>(args.keys_out);
  auto* values_out = static_cast<uint4*>(args.values_out);
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    const int token = first + i / row_words;
    const int place = i % row_words;
    const std::int64_t from = table[token / kKvBlockTokens] * words.block +
                              token % kKvBlockTokens * words.token +
                              place / words.of_head * words.head + place % words.of_head;
    const std::int64_t to = static_cast<std::int64_t>(begin + token) * row_words + place;
    keys_out[to] = keys[from];
    values_out[to] = values[from];
  }
}

}  // namespace

cudaError_t gather_kv(const KvGatherShape& shape, const KvGatherArgs& args, const Launch& launch) {
  const auto in_word = static_cast<std::int64_t>(16 / size_of(shape.dtype));
  const KvLayout& layout = shape.layout;
  if (shape.sequences < 0 || shape.max_rows < 0 || shape.kv_heads < 1 || shape.max_blocks < 1 ||
      shape.head_dim % in_word != 0 || layout.block_stride % in_word != 0 ||
      layout.token_stride % in_word != 0 || layout.head_stride % in_word != 0)
    return cudaErrorInvalidValue;
  const Words words{layout.block_stride / in_word, layout.token_stride / in_word,
                    layout.head_stride / in_word, static_cast<int>(shape.head_dim / in_word)};
  const dim3 grid(static_cast<unsigned>((shape.max_rows + kRowsOfBlock - 1) / kRowsOfBlock),
                  static_cast<unsigned>(shape.sequences));
  return launch_kernel(gather_kernel, grid, dim3(kThreads), 0, launch, args, words,
                       static_cast<int>(shape.kv_heads), static_cast<int>(shape.max_blocks));
}

}  // namespace facet::kernels
