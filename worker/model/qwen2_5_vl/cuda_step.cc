#include "worker/model/qwen2_5_vl/cuda_step.h"

#include <algorithm>
#include <numeric>

namespace facet {
namespace {

std::int32_t length(const SequenceChunk& chunk) {
  return static_cast<std::int32_t>(chunk.token_ids.size());
}

int kind(const SequenceChunk& chunk) {
  if (length(chunk) == 1) return 0;
  return chunk.context_tokens == 0 ? 1 : 2;
}

}  // namespace

CudaLanguage::Order::Order(std::span<const SequenceChunk> chunks)
    : last_row_of_chunk(chunks.size()) {
  std::vector<std::size_t> places(chunks.size());
  std::iota(places.begin(), places.end(), 0);
  std::stable_sort(places.begin(), places.end(),
                   [&](std::size_t a, std::size_t b) { return kind(chunks[a]) < kind(chunks[b]); });
  for (const std::size_t place : places) {
    const SequenceChunk& chunk = chunks[place];
    sorted.push_back(&chunk);
    first_row.push_back(rows);
    rows += length(chunk);
    last_row_of_chunk[place] = rows - 1;
    num_decode += kind(chunk) == 0 ? 1 : 0;
    num_fresh += kind(chunk) == 1 ? 1 : 0;
  }
}

void CudaLanguage::pack_rows(const Order& order, Step& step, StepBlock& block) const {
  const auto tokens = block.add<std::int32_t>(order.rows);
  const auto row_chunk = block.add<std::int32_t>(order.rows);
  const auto row_index = block.add<std::int32_t>(order.rows);
  const auto positions = block.add<Position>(order.rows);
  const auto image_row = block.add<std::int32_t>(order.rows);
  const auto lengths = block.add<std::int32_t>(static_cast<std::int64_t>(order.num_decode));
  for (std::size_t place = 0; place < order.sorted.size(); ++place) {
    const SequenceChunk& chunk = *order.sorted[place];
    const auto first = static_cast<std::size_t>(order.first_row[place]);
    for (std::size_t i = 0; i < chunk.token_ids.size(); ++i) {
      tokens.host[first + i] = chunk.token_ids[i];
      row_chunk.host[first + i] = static_cast<std::int32_t>(place);
      row_index.host[first + i] = chunk.context_tokens + static_cast<std::int32_t>(i);
      positions.host[first + i] = chunk.positions[i];
      image_row.host[first + i] = -1;
    }
    for (const ImageRows& image : chunk.image_rows)
      for (std::int32_t i = 0; i < image.count; ++i)
        image_row.host[first + static_cast<std::size_t>(image.at + i)] = image.pool_row + i;
    if (place < order.num_decode) lengths.host[place] = chunk.context_tokens + 1;
  }
  step.tokens = tokens.device;
  step.row_chunk = row_chunk.device;
  step.row_index = row_index.device;
  step.positions = reinterpret_cast<const std::int32_t*>(positions.device);
  step.image_row = image_row.device;
  step.lengths = lengths.device;
}

// Beginnings of prompts are one group; the rest are cut where their keys fill the gathering buffer.
void CudaLanguage::pack_groups(const Order& order, Step& step, StepBlock& block) const {
  std::size_t place = order.num_decode;
  while (place < order.sorted.size()) {
    Group group;
    group.first_row = order.first_row[place];
    group.gathered = place >= order.num_decode + order.num_fresh;
    const std::size_t bound =
        group.gathered ? order.sorted.size() : order.num_decode + order.num_fresh;
    const std::size_t begin = place;
    for (; place < bound; ++place) {
      const SequenceChunk& chunk = *order.sorted[place];
      const std::int32_t keys = chunk.context_tokens + length(chunk);
      if (place > begin && group.gathered && group.key_rows + keys > sizes_.gather_rows()) break;
      group.max_queries = std::max(group.max_queries, length(chunk));
      group.max_keys = std::max(group.max_keys, keys);
      group.query_rows += length(chunk);
      group.key_rows += keys;
    }
    group.segments = static_cast<std::int32_t>(place - begin);
    const auto queries = block.add<std::int32_t>(group.segments + 1);
    const auto keys = block.add<std::int32_t>(group.segments + 1);
    const auto chunks = block.add<std::int32_t>(group.segments);
    queries.host[0] = keys.host[0] = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(group.segments); ++i) {
      const SequenceChunk& chunk = *order.sorted[begin + i];
      queries.host[i + 1] = queries.host[i] + length(chunk);
      keys.host[i + 1] = keys.host[i] + chunk.context_tokens + length(chunk);
      chunks.host[i] = static_cast<std::int32_t>(begin + i);
    }
    group.query_begin = queries.device;
    group.key_begin = keys.device;
    group.chunks = chunks.device;
    step.groups.push_back(group);
  }
}

// Row `place` of the table: the blocks of the chunk at that place, as far as the widest needs.
void CudaLanguage::send_tables(const Order& order) {
  const auto stride = static_cast<std::size_t>(sizes_.lane_blocks());
  auto* host = reinterpret_cast<std::int32_t*>(host_table_.data());
  std::size_t widest = 0;
  for (std::size_t place = 0; place < order.sorted.size(); ++place) {
    const auto& blocks = order.sorted[place]->blocks;
    const std::size_t count = std::min(blocks.size(), stride);
    std::copy_n(blocks.begin(), count, host + place * stride);
    widest = std::max(widest, count);
  }
  FACET_CUDA(cudaMemcpy2DAsync(inputs_.table, stride * sizeof(std::int32_t), host,
                               stride * sizeof(std::int32_t), widest * sizeof(std::int32_t),
                               order.sorted.size(), cudaMemcpyHostToDevice, parts_.stream));
}

CudaLanguage::Step CudaLanguage::pack(std::span<const SequenceChunk> chunks) {
  const Order order(chunks);
  FACET_CHECK(order.rows > 0 && order.rows <= sizes_.step_tokens);
  FACET_CHECK(static_cast<std::int64_t>(chunks.size()) <= sizes_.lanes);
  StepBlock block(host_block_.data(), inputs_.block, host_block_.size());
  Step step;
  step.rows = order.rows;
  step.decode_rows = static_cast<std::int32_t>(order.num_decode);
  pack_rows(order, step, block);
  pack_groups(order, step, block);
  std::vector<std::int32_t> chosen;
  for (std::size_t i = 0; i < chunks.size(); ++i)
    if (chunks[i].sampler != nullptr) chosen.push_back(order.last_row_of_chunk[i]);
  step.chosen_rows = static_cast<std::int32_t>(chosen.size());
  const auto chosen_row = block.add<std::int32_t>(step.chosen_rows);
  std::copy(chosen.begin(), chosen.end(), chosen_row.host.begin());
  step.chosen_row = chosen_row.device;
  block.send(parts_.stream);
  send_tables(order);
  return step;
}

}  // namespace facet
