#include "worker/model/cuda/weight_upload.h"

#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cstring>

#include "common/base/check.h"

namespace facet {
namespace {

// Bytes that one thread copies at a time.
constexpr std::int64_t kGrain = 1 << 20;

template <class From, class To>
void convert(const std::byte* from, std::byte* to, std::int64_t count) {
  at::parallel_for(0, count, kGrain / 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      From value;  // the file's bytes may not be aligned
      std::memcpy(&value, from + i * static_cast<std::int64_t>(sizeof(From)), sizeof value);
      const To converted = static_cast<To>(static_cast<float>(value));
      std::memcpy(to + i * static_cast<std::int64_t>(sizeof(To)), &converted, sizeof converted);
    }
  });
}

void copy(const std::byte* from, std::byte* to, std::int64_t bytes) {
  at::parallel_for(0, bytes, kGrain, [&](std::int64_t begin, std::int64_t end) {
    std::memcpy(to + begin, from + begin, static_cast<std::size_t>(end - begin));
  });
}

template <class To>
void convert_from(TensorDtype dtype, const std::byte* from, std::byte* to, std::int64_t count) {
  switch (dtype) {
    case TensorDtype::kF32:
      return convert<float, To>(from, to, count);
    case TensorDtype::kBf16:
      return convert<c10::BFloat16, To>(from, to, count);
    case TensorDtype::kF16:
      return convert<c10::Half, To>(from, to, count);
    default:
      FACET_CHECK_MSG(false, "bind_tensors lets only these through");
  }
}

bool same_type(TensorDtype stored, DType type) {
  return stored == (type == DType::kFp32 ? TensorDtype::kF32 : TensorDtype::kBf16);
}

}  // namespace

WeightUpload::WeightUpload(const TensorTable& table, DType type, cudaStream_t stream,
                           const ProgressTick& tick)
    : table_(table),
      type_(type),
      stream_(stream),
      tick_(tick),
      pieces_{PinnedBuffer(kPieceBytes), PinnedBuffer(kPieceBytes), PinnedBuffer(kPieceBytes)} {}

void WeightUpload::put(const std::string& name, const UploadPlace& place) {
  const auto found = table_.find(name);
  FACET_CHECK_MSG(found != table_.end(), name.c_str());
  const TensorView& view = *found->second;
  std::int64_t values = 1;
  for (const std::int64_t size : view.shape) values *= size;
  const std::int64_t rows = view.shape.size() > 1 ? view.shape.front() : 1;
  const std::int64_t row_values = values / rows;
  FACET_CHECK_MSG(row_values <= place.row_values, name.c_str());
  const std::int64_t piece_rows = std::max<std::int64_t>(
      1, static_cast<std::int64_t>(kPieceBytes) / (row_values * value_bytes(type_)));
  FACET_CHECK_MSG(row_values * value_bytes(type_) <= static_cast<std::int64_t>(kPieceBytes),
                  name.c_str());
  for (std::int64_t row = 0; row < rows; row += piece_rows)
    put_rows(view, row, std::min(piece_rows, rows - row), row_values, place);
}

void WeightUpload::put_rows(const TensorView& view, std::int64_t first_row, std::int64_t rows,
                            std::int64_t row_values, const UploadPlace& place) {
  const std::size_t piece = next_++ % kPieces;
  done_[piece].wait();  // its last copy has left it
  std::byte* staged = pieces_[piece].data();
  const std::int64_t item = value_bytes(type_);
  const std::byte* from =
      view.data + first_row * row_values * static_cast<std::int64_t>(dtype_bytes(view.dtype));
  if (same_type(view.dtype, type_))
    copy(from, staged, rows * row_values * item);
  else if (type_ == DType::kFp32)
    convert_from<float>(view.dtype, from, staged, rows * row_values);
  else
    convert_from<c10::BFloat16>(view.dtype, from, staged, rows * row_values);
  auto* to =
      static_cast<std::byte*>(place.to) + (place.first + first_row) * place.row_values * item;
  const auto row_bytes = static_cast<std::size_t>(row_values * item);
  FACET_CUDA(cudaMemcpy2DAsync(to, static_cast<std::size_t>(place.row_values * item), staged,
                               row_bytes, row_bytes, static_cast<std::size_t>(rows),
                               cudaMemcpyHostToDevice, stream_));
  done_[piece].record(stream_);
  tick_(WorkerPhase::kLoad);
}

void WeightUpload::finish() {
  FACET_CUDA(cudaStreamSynchronize(stream_));
}

}  // namespace facet
