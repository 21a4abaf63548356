#include "worker/model/cuda/weight_upload.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "common/base/check.h"
#include "worker/model/cuda/cuda_error.h"
#include "worker/model/cuda/weight_convert.h"

namespace facet {
namespace {

// "[3, 17]" of the value with this index.
std::string place_of(std::int64_t index, const std::vector<std::int64_t>& shape) {
  std::string text = "]";
  for (auto size = shape.rbegin(); size != shape.rend(); ++size) {
    text = (size + 1 == shape.rend() ? "[" : ", ") + std::to_string(index % *size) + text;
    index /= *size;
  }
  return text;
}

[[noreturn]] void refuse(const TensorView& view, const UnfitValue& unfit) {
  std::array<char, 160> numbers{};
  std::snprintf(numbers.data(), numbers.size(),
                " is %.9g, which fp16 does not hold: its largest is %.0f; model.dtype = \"bf16\" "
                "and \"fp32\" do",
                static_cast<double>(unfit.value), kLargestFp16);
  refuse_model("tensor " + view.name + place_of(unfit.index, view.shape) + numbers.data());
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
  const std::int64_t first = first_row * row_values;
  const std::byte* from = view.data + first * static_cast<std::int64_t>(dtype_bytes(view.dtype));
  if (auto unfit = convert_values(view.dtype, from, type_, staged, rows * row_values)) {
    unfit->index += first;
    refuse(view, *unfit);
  }
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
