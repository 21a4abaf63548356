#include "kernels/base/device.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/embedding/embed_tokens.h"

namespace facet::kernels {
namespace {

constexpr int kThreads = 128;

// Rows are copied as 16-byte words, whatever their type.
__device__ void copy_row(const uint4* from, uint4* to, int words) {
  for (int i = static_cast<int>(threadIdx.x); i < words; i += kThreads)
    to[i] = from != nullptr ? from[i] : make_uint4(0, 0, 0, 0);
}

__global__ void embed_kernel(const uint4* table, const uint4* images, const std::int32_t* token_ids,
                             const std::int32_t* chosen, const std::int32_t* image_row, uint4* out,
                             int words, int vocab) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const std::int64_t row = blockIdx.x;
  const int image = image_row != nullptr ? image_row[row] : -1;
  const uint4* from = nullptr;
  if (image >= 0) {
    from = images + static_cast<std::int64_t>(image) * words;
  } else {
    int token = token_ids[row];
    if (token < 0 && chosen != nullptr) token = chosen[~token];
    if (token >= 0 && token < vocab) from = table + static_cast<std::int64_t>(token) * words;
  }
  copy_row(from, out + row * words, words);
}

__global__ void gather_kernel(const uint4* x, const std::int32_t* index, uint4* out, int words) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  const std::int64_t row = blockIdx.x;
  const std::int64_t from = index[row];
  copy_row(from >= 0 ? x + from * words : nullptr, out + row * words, words);
}

bool is_valid(std::int64_t rows, std::int32_t width) {
  return rows >= 0 && rows <= 0x7fffffff && width >= 8 && width % 8 == 0;
}

int words_of(DType dtype, std::int32_t width) {
  return static_cast<int>(static_cast<std::size_t>(width) * size_of(dtype) / sizeof(uint4));
}

}  // namespace

cudaError_t embed_tokens(DType dtype, const EmbedArgs& args, std::int64_t rows, std::int32_t width,
                         std::int32_t vocab, const Launch& launch) {
  if (!is_valid(rows, width) || vocab < 1 || (args.image_row != nullptr && args.images == nullptr))
    return cudaErrorInvalidValue;
  return launch_kernel(embed_kernel, dim3(static_cast<unsigned>(rows)), dim3(kThreads), 0, launch,
                       static_cast<const uint4*>(args.table),
                       static_cast<const uint4*>(args.images), args.token_ids, args.chosen,
                       args.image_row, static_cast<uint4*>(args.out), words_of(dtype, width),
                       static_cast<int>(vocab));
}

cudaError_t gather_rows(DType dtype, const void* x, const std::int32_t* index, void* out,
                        std::int64_t rows, std::int32_t width, const Launch& launch) {
  if (!is_valid(rows, width)) return cudaErrorInvalidValue;
  return launch_kernel(gather_kernel, dim3(static_cast<unsigned>(rows)), dim3(kThreads), 0, launch,
                       static_cast<const uint4*>(x), index, static_cast<uint4*>(out),
                       words_of(dtype, width));
}

}  // namespace facet::kernels
