// CudaLanguage before its first request: steps of single tokens are captured as graphs, and the
// kernels of other steps are loaded.
#include <algorithm>

#include "worker/model/qwen2_5_vl/cuda_step.h"

namespace facet {
namespace {

// Steps of 1, 2, 4, 8 lanes, then every eighth, sixteenth and thirty-second: a padded step reads
// the same weights, and its products are as fast as those of the rows that it stands for.
std::int32_t next_size(std::int32_t lanes) {
  if (lanes < 8) return 2 * lanes;
  return lanes + (lanes < 64 ? 8 : lanes < 128 ? 16 : 32);
}

}  // namespace

std::int32_t CudaLanguage::graph_lanes(std::span<const SequenceChunk> chunks) const {
  const auto is_longer = [](const SequenceChunk& chunk) { return chunk.token_ids.size() != 1; };
  if (chunks.empty() || std::ranges::any_of(chunks, is_longer)) return 0;
  const auto graph = graphs_.lower_bound(static_cast<std::int32_t>(chunks.size()));
  return graph == graphs_.end() ? 0 : graph->first;
}

void CudaLanguage::touch_prefill(const ProgressTick& tick) {
  // cuBLASLt changes its kernels with the number of rows, at places that it does not tell.
  const auto more = [](std::int64_t tokens) { return std::max<std::int64_t>(1, tokens / 4); };
  for (std::int64_t tokens = 2; tokens < sizes_.step_tokens; tokens += more(tokens)) {
    touch_step(tokens, 0);
    tick(WorkerPhase::kPrefill);
  }
  touch_step(sizes_.step_tokens, 0);
  if (sizes_.step_tokens > 1 && sizes_.context > sizes_.block_tokens + 1)
    touch_step(2, sizes_.block_tokens);
}

void CudaLanguage::capture_graphs(const ProgressTick& tick) {
  const auto most = static_cast<std::int32_t>(sizes_.lanes);
  for (std::int32_t lanes = 1; lanes < most; lanes = next_size(lanes)) {
    capture(lanes);
    tick(WorkerPhase::kDecode);
  }
  capture(most);
  FACET_CUDA(cudaStreamSynchronize(parts_.stream));
}

void CudaLanguage::capture(std::int32_t lanes) {
  const Step step = pack({}, lanes, 0);
  const ProgressTick nothing = [](WorkerPhase) {};
  compute(step, nothing);
  FACET_CUDA(cudaStreamSynchronize(parts_.stream));
  graphs_.emplace(lanes, CudaGraph(parts_.stream, [&] { compute(step, nothing); }));
}

// One layer stands for all. Sequences of token 0 in the pool's first blocks.
void CudaLanguage::touch_step(std::int64_t tokens, std::int64_t context) {
  const std::int64_t longest = std::min(tokens, sizes_.context - context);
  const std::vector<std::int32_t> ids(static_cast<std::size_t>(longest));
  const std::vector<Position> positions(ids.size());
  std::vector<std::int32_t> blocks(static_cast<std::size_t>(sizes_.lane_blocks()));
  for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::int32_t>(i);
  std::vector<SequenceChunk> chunks;
  for (std::int64_t left = tokens; left > 0 && std::ssize(chunks) < sizes_.lanes;) {
    SequenceChunk& chunk = chunks.emplace_back();
    const auto count = static_cast<std::size_t>(std::min(left, longest));
    chunk.token_ids = std::span(ids).first(count);
    chunk.positions = std::span(positions).first(count);
    chunk.context_tokens = static_cast<std::int32_t>(context);
    chunk.blocks = blocks;
    left -= static_cast<std::int64_t>(count);
  }
  const Step step = pack(chunks, 0, 0);
  embed(step);
  run_layer(step, 0);
  FACET_CUDA(cudaStreamSynchronize(parts_.stream));
}

}  // namespace facet
