#include "worker/model/cuda/device_sampler.h"

#include <algorithm>
#include <cstring>

#include "common/base/check.h"
#include "worker/engine/sampler.h"

namespace facet {
namespace {

using kernels::kMaxTopLogprobs;
using kernels::SampledToken;
using kernels::SamplingLane;

template <class T>
std::int64_t bytes_of(std::int64_t count) {
  return count * static_cast<std::int64_t>(sizeof(T));
}
template <class T>
PinnedBuffer pinned(std::int64_t count) {
  return PinnedBuffer(static_cast<std::uint64_t>(bytes_of<T>(count)));
}
template <class T>
T* as(const PinnedBuffer& buffer) {
  return reinterpret_cast<T*>(buffer.data());
}

// Distinct tokens seen, and each answered token as often as it was: a context of each at most.
std::int64_t history_tokens(const DeviceSamplerSizes& sizes) {
  return 2 * sizes.context;
}

SamplingLane lane_of(const Sampler& sampler) {
  const SamplingParams& params = sampler.params();
  SamplingLane lane;
  lane.top_p = params.top_p;
  lane.min_p = params.min_p;
  lane.presence_penalty = params.presence_penalty;
  lane.frequency_penalty = params.frequency_penalty;
  lane.seed = params.seed;
  lane.temperature = static_cast<float>(params.temperature);
  lane.repetition_penalty = sampler.repetition_penalty();
  lane.top_k = static_cast<std::uint32_t>(params.top_k);
  lane.min_tokens = static_cast<std::uint32_t>(params.min_tokens);
  lane.num_observed = sampler.num_observed();
  lane.num_logprobs = sampler.num_logprobs();
  return lane;
}

bool has_penalties(const SamplingLane& lane) {
  return lane.repetition_penalty != 1.0F || lane.presence_penalty != 0.0 ||
         lane.frequency_penalty != 0.0;
}

}  // namespace

SamplerRegions::SamplerRegions(Cutter& cutter, const DeviceSamplerSizes& sizes)
    : lanes(cutter.take<SamplingLane>(bytes_of<SamplingLane>(sizes.lanes))),
      states(cutter.take<kernels::TokenState>(
          bytes_of<kernels::TokenState>(std::int64_t{sizes.lanes} * sizes.vocab))),
      history(cutter.take<std::int32_t>(bytes_of<std::int32_t>(history_tokens(sizes)))),
      chosen(cutter.take<std::int32_t>(bytes_of<std::int32_t>(sizes.lanes))),
      out(cutter.take<SampledToken>(bytes_of<SampledToken>(sizes.lanes))),
      top_ids(cutter.take<std::int32_t>(
          bytes_of<std::int32_t>(std::int64_t{sizes.lanes} * kMaxTopLogprobs))),
      top_logprobs(
          cutter.take<float>(bytes_of<float>(std::int64_t{sizes.lanes} * kMaxTopLogprobs))) {}

DeviceSampler::Slot::Slot(const DeviceSamplerSizes& sizes)
    : lanes(pinned<SamplingLane>(sizes.lanes)),
      history(pinned<std::int32_t>(history_tokens(sizes))),
      out(pinned<SampledToken>(sizes.lanes)),
      top_ids(pinned<std::int32_t>(std::int64_t{sizes.lanes} * kMaxTopLogprobs)),
      top_logprobs(pinned<float>(std::int64_t{sizes.lanes} * kMaxTopLogprobs)) {}

DeviceSampler::DeviceSampler(const DeviceSamplerSizes& sizes, std::span<const std::int32_t> ends,
                             void* region, cudaStream_t stream)
    : sizes_(sizes),
      device_(cut<SamplerRegions>(region, sizes)),
      stream_(stream),
      slots_{Slot(sizes), Slot(sizes)},
      is_fresh_(static_cast<std::size_t>(sizes.lanes), true),
      num_observed_(static_cast<std::size_t>(sizes.lanes)) {
  FACET_CHECK(ends.size() <= kernels::kMaxEosTokens);
  shape_.vocab = sizes.vocab;
  shape_.logits_stride = sizes.vocab;
  shape_.logits_dtype = sizes.logits;
  for (const std::int32_t end : ends) shape_.eos[shape_.num_eos++] = end;
}

void DeviceSampler::begin_lanes(std::span<const SequenceChunk> chunks, int slot) {
  Slot& host = slots_[slot];
  host.used_history = 0;
  for (const SequenceChunk& chunk : chunks) {
    const auto lane = static_cast<std::size_t>(chunk.lane);
    if (chunk.starts_lane) is_fresh_[lane] = true;
    if (chunk.sampler == nullptr) continue;
    if (is_fresh_[lane]) begin_lane(chunk, host);
    is_fresh_[lane] = false;
    FACET_CHECK(num_observed_[lane] == chunk.answer_index);
    ++num_observed_[lane];
  }
}

void DeviceSampler::begin_lane(const SequenceChunk& chunk, Slot& slot) {
  const auto lane = static_cast<std::size_t>(chunk.lane);
  SamplingLane* const from = as<SamplingLane>(slot.lanes) + lane;
  *from = lane_of(*chunk.sampler);
  num_observed_[lane] = from->num_observed;
  FACET_CUDA(
      cudaMemcpyAsync(device_.lanes + lane, from, sizeof *from, cudaMemcpyHostToDevice, stream_));
  if (has_penalties(*from)) send_history(chunk, slot);
}

void DeviceSampler::send_history(const SequenceChunk& chunk, Slot& slot) {
  std::vector<std::int32_t> tokens(chunk.sampler->seen().begin(), chunk.sampler->seen().end());
  const std::size_t num_seen = tokens.size();
  for (const auto& [token, count] : chunk.sampler->answer_counts())
    tokens.insert(tokens.end(), static_cast<std::size_t>(count), token);
  const auto count = static_cast<std::int64_t>(tokens.size());
  FACET_CHECK(count <= history_tokens(sizes_));
  if (slot.used_history + count > history_tokens(sizes_)) {
    FACET_CUDA(cudaStreamSynchronize(stream_));  // what lies there was read
    slot.used_history = 0;
  }
  std::int32_t* const from = as<std::int32_t>(slot.history) + slot.used_history;
  std::int32_t* const to = device_.history + slot.used_history;
  std::copy(tokens.begin(), tokens.end(), from);
  slot.used_history += count;
  if (count > 0)
    FACET_CUDA(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes_of<std::int32_t>(count)),
                               cudaMemcpyHostToDevice, stream_));
  FACET_CUDA(kernels::reset_token_state(device_.states + std::int64_t{chunk.lane} * sizes_.vocab,
                                        sizes_.vocab, to, static_cast<std::int32_t>(num_seen),
                                        static_cast<std::int32_t>(tokens.size() - num_seen),
                                        {stream_, false}));
}

void DeviceSampler::sample(const void* logits, const std::int32_t* row_lane, std::int32_t rows,
                           const kernels::Launch& launch) const {
  kernels::SamplerShape shape = shape_;
  shape.rows = rows;
  kernels::SamplerArgs args;
  args.logits = logits;
  args.row_lane = row_lane;
  args.lanes = device_.lanes;
  args.states = device_.states;
  args.out = device_.out;
  args.top_ids = device_.top_ids;
  args.top_logprobs = device_.top_logprobs;
  args.last_tokens = device_.chosen;
  FACET_CUDA(kernels::sample_tokens(shape, args, launch));
}

void DeviceSampler::fetch(std::int32_t rows, bool with_top, int slot) const {
  const Slot& host = slots_[slot];
  const auto copy = [&](void* to, const void* from, std::int64_t bytes) {
    FACET_CUDA(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost,
                               stream_));
  };
  if (rows == 0) return;
  copy(host.out.data(), device_.out, bytes_of<SampledToken>(rows));
  if (!with_top) return;
  const std::int64_t top = std::int64_t{rows} * kMaxTopLogprobs;
  copy(host.top_ids.data(), device_.top_ids, bytes_of<std::int32_t>(top));
  copy(host.top_logprobs.data(), device_.top_logprobs, bytes_of<float>(top));
}

ChosenToken DeviceSampler::result(int slot, std::int32_t row, std::int32_t num_logprobs) const {
  const Slot& host = slots_[slot];
  const SampledToken& sampled = as<SampledToken>(host.out)[row];
  ChosenToken chosen;
  FACET_CHECK(sampled.status != kernels::SampleStatus::kUnused);
  chosen.not_finite = sampled.status == kernels::SampleStatus::kNotFinite;
  if (chosen.not_finite) return chosen;
  chosen.token = sampled.token;
  if (num_logprobs < 0) return chosen;
  chosen.logprob = sampled.logprob;
  const std::int64_t first = std::int64_t{row} * kMaxTopLogprobs;
  for (std::int32_t i = 0; i < std::min(num_logprobs, sampled.num_top); ++i)
    chosen.top.push_back(
        {as<std::int32_t>(host.top_ids)[first + i], as<float>(host.top_logprobs)[first + i]});
  return chosen;
}

}  // namespace facet
