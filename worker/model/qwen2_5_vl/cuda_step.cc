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

CudaLanguage::Order::Order(std::span<const SequenceChunk> chunks, std::int32_t padded_lanes)
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
  decode_rows = static_cast<std::int32_t>(num_decode);
  is_padded = padded_lanes > 0;
  if (!is_padded) return;
  FACET_CHECK(num_decode == chunks.size() && rows <= padded_lanes);
  rows = decode_rows = padded_lanes;
}

void CudaLanguage::pack_rows(const Order& order, Step& step, StepBlock& block) const {
  const auto tokens = block.add<std::int32_t>(order.rows);
  const auto row_chunk = block.add<std::int32_t>(order.rows);
  const auto row_index = block.add<std::int32_t>(order.rows);
  const auto positions = block.add<Position>(order.rows);
  const auto image_row = block.add<std::int32_t>(order.rows);
  const auto lengths = block.add<std::int32_t>(order.decode_rows);
  for (std::size_t place = 0; place < order.sorted.size(); ++place) {
    const SequenceChunk& chunk = *order.sorted[place];
    const auto first = static_cast<std::size_t>(order.first_row[place]);
    for (std::size_t i = 0; i < chunk.token_ids.size(); ++i) {
      const std::int32_t token = chunk.token_ids[i];
      tokens.host[first + i] = token == kChosenBefore ? ~chunk.lane : token;
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
  for (auto row = order.num_decode; order.is_padded && row < static_cast<std::size_t>(order.rows);
       ++row) {
    tokens.host[row] = static_cast<std::int32_t>(config_.vocab_size);  // reads no embedding
    row_chunk.host[row] = image_row.host[row] = -1;
    row_index.host[row] = lengths.host[row] = 0;
    positions.host[row] = {};
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

// What is chosen: in a padded step every row stands for a chunk, else the last rows of the chunks
// that have a sampler.
void CudaLanguage::pack_chosen(std::span<const SequenceChunk> chunks, const Order& order,
                               Step& step, StepBlock& block) {
  const bool all_rows = order.is_padded;
  const auto has_sampler = [](const SequenceChunk& chunk) { return chunk.sampler != nullptr; };
  step.chosen_rows =
      all_rows ? order.rows : static_cast<std::int32_t>(std::ranges::count_if(chunks, has_sampler));
  const auto rows = block.add<std::int32_t>(all_rows ? 0 : step.chosen_rows);
  const auto lanes = block.add<std::int32_t>(step.chosen_rows);
  std::ranges::fill(lanes.host, -1);
  result_rows_.clear();
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    if (!has_sampler(chunks[i])) continue;
    const std::size_t at = all_rows ? i : result_rows_.size();
    if (!all_rows) rows.host[at] = order.last_row_of_chunk[i];
    lanes.host[at] = chunks[i].lane;
    result_rows_.push_back(static_cast<std::int32_t>(at));
  }
  step.chosen_row = all_rows ? nullptr : rows.device;
  step.chosen_lane = lanes.device;
}

// Row `place` of the table: the blocks of the chunk at that place, as far as the widest needs.
void CudaLanguage::send_tables(const Order& order, int slot) {
  const auto stride = static_cast<std::size_t>(sizes_.lane_blocks());
  auto* host = reinterpret_cast<std::int32_t*>(host_table_[slot].data());
  std::size_t widest = 0;
  for (std::size_t place = 0; place < order.sorted.size(); ++place) {
    const auto& blocks = order.sorted[place]->blocks;
    const std::size_t count = std::min(blocks.size(), stride);
    std::copy_n(blocks.begin(), count, host + place * stride);
    widest = std::max(widest, count);
  }
  if (widest == 0) return;
  FACET_CUDA(cudaMemcpy2DAsync(inputs_.table, stride * sizeof(std::int32_t), host,
                               stride * sizeof(std::int32_t), widest * sizeof(std::int32_t),
                               order.sorted.size(), cudaMemcpyHostToDevice, parts_.stream));
}

CudaLanguage::Step CudaLanguage::pack(std::span<const SequenceChunk> chunks,
                                      std::int32_t padded_lanes, int slot) {
  const Order order(chunks, padded_lanes);
  FACET_CHECK(order.rows > 0 && order.rows <= sizes_.step_tokens);
  FACET_CHECK(static_cast<std::int64_t>(chunks.size()) <= sizes_.lanes);
  StepBlock block(host_block_[slot].data(), inputs_.block, host_block_[slot].size());
  Step step;
  step.rows = order.rows;
  step.decode_rows = order.decode_rows;
  pack_rows(order, step, block);
  pack_groups(order, step, block);
  pack_chosen(chunks, order, step, block);
  block.send(parts_.stream);
  send_tables(order, slot);
  return step;
}

}  // namespace facet
