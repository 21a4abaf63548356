// A checkpoint's tensors to the device, in the dtype that the model computes in. Host memory in
// use is the staging window, whatever the checkpoint's size: a tensor goes through it in pieces,
// copied (and converted) by all threads while the piece before is on its way.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "worker/checkpoint/tensor_table.h"
#include "worker/engine/engine.h"
#include "worker/model/cuda/matmul.h"
#include "worker/model/cuda/pinned.h"

namespace facet {

// Where the rows of a stored matrix go: row r to row first + r of a matrix whose rows have
// `row_values` values. A vector is a matrix of one row.
struct UploadPlace {
  void* to = nullptr;
  std::int64_t row_values = 0;
  std::int64_t first = 0;
};

class WeightUpload {
 public:
  static constexpr std::uint64_t kPieceBytes = 64ull << 20;
  static constexpr std::size_t kPieces = 3;

  // `table` and `tick` outlive the upload.
  WeightUpload(const TensorTable& table, DType type, cudaStream_t stream, const ProgressTick& tick);

  // The tensor seen as [shape[0], rest]; a vector as [1, length]. A finite value
  // that would not be finite in fp16 is refused by name (refuse_model()).
  void put(const std::string& name, const UploadPlace& place);
  // Until all is there.
  void finish();

 private:
  void put_rows(const TensorView& view, std::int64_t first_row, std::int64_t rows,
                std::int64_t row_values, const UploadPlace& place);

  const TensorTable& table_;
  DType type_;
  cudaStream_t stream_;
  const ProgressTick& tick_;
  std::array<PinnedBuffer, kPieces> pieces_;
  std::array<CudaEvent, kPieces> done_;
  std::size_t next_ = 0;
};

}  // namespace facet
