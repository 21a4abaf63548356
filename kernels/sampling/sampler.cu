#include "kernels/base/device.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/sampling/sampler.h"
#include "kernels/sampling/sampler_block.cuh"

namespace facet::kernels {
namespace {

constexpr float kNegligible = 30.0F;  // as in the engine's sampler

// The generator of worker/engine/philox.h: uniform in [0, 1) with 53 bits.
__device__ double uniform_at(std::uint64_t seed, std::uint32_t index) {
  std::uint32_t c0 = index, c1 = 0, c2 = 0, c3 = 0;
  auto key0 = static_cast<std::uint32_t>(seed);
  auto key1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = 0xD2511F53ULL * c0;
    const std::uint64_t product1 = 0xCD9E8D57ULL * c2;
    c0 = static_cast<std::uint32_t>(product1 >> 32) ^ c1 ^ key0;
    c1 = static_cast<std::uint32_t>(product1);
    c2 = static_cast<std::uint32_t>(product0 >> 32) ^ c3 ^ key1;
    c3 = static_cast<std::uint32_t>(product0);
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  const std::uint64_t bits = static_cast<std::uint64_t>(c0) << 32 | c1;
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

// exp(score - best) in units of 2^-44.
__device__ __forceinline__ std::uint64_t mass_of(float score, float best) {
  const float below = score - best;
  return below >= -kNegligible ? static_cast<std::uint64_t>(expf(below) * 0x1.0p44F) : 0;
}

// A row's scores: the logits after penalties, banned ends and temperature, as the CPU rounds them.
template <class T>
struct Scores {
  const T* logits;
  const TokenState* states;  // null without penalties
  const SamplerShape* shape;
  float repetition, temperature;  // temperature 1 where the maximum is taken
  double presence, frequency;
  bool bans_end;

  __device__ __forceinline__ float operator()(int i) const {
    float score = to_float(logits[i]);
    if (states != nullptr) {
      const TokenState state = states[i];
      if (state != 0 && repetition != 1.0F)
        score = score < 0.0F ? __fmul_rn(score, repetition) : __fdiv_rn(score, repetition);
      const int count = state & kAnsweredMask;
      if (count != 0 && (presence != 0.0 || frequency != 0.0))
        score =
            __fsub_rn(score, __double2float_rn(__dadd_rn(__dmul_rn(frequency, count), presence)));
    }
    if (bans_end)
      for (int j = 0; j < shape->num_eos; ++j)
        if (shape->eos[j] == i) score = -INFINITY;
    return temperature == 1.0F ? score : __fdiv_rn(score, temperature);
  }
};

// The draw among the scores that top-k, top-p and min-p leave; `best` is finite.
template <class Score>
__device__ int draw(Block& block, const Score& score, int vocab, float best,
                    const SamplingLane& lane) {
  const auto mass = [&](int i) { return mass_of(score(i), best); };
  std::uint32_t threshold = 0;  // ordered_key: what is below is dropped
  if (lane.top_k != 0 && lane.top_k < static_cast<std::uint32_t>(vocab)) {
    const auto one = [&](int i) { return Weighed{ordered_key(score(i)), mass(i) != 0 ? 1ULL : 0}; };
    const std::uint64_t count = sum_in_order(block, vocab, [&](int i) { return one(i).weight; });
    if (count > lane.top_k) threshold = select(block, vocab, count - lane.top_k, one).key;
  }
  int first_tie = 0;  // of the scores equal to the threshold, those before it are dropped
  const auto kept_mass = [&](int i) {
    const float at = score(i);
    const std::uint32_t key = ordered_key(at);
    if (key < threshold || (key == threshold && i < first_tie)) return Weighed{key, 0};
    return Weighed{key, mass_of(at, best)};
  };
  if (lane.top_p < 1.0) {
    const std::uint64_t total =
        sum_in_order(block, vocab, [&](int i) { return kept_mass(i).weight; });
    auto tail = static_cast<std::uint64_t>((1.0 - lane.top_p) * static_cast<double>(total));
    if (tail >= total) tail = total - 1;  // the best one always stays
    const Selected at = select(block, vocab, tail, kept_mass);
    // The tail ends among equals: the lower indices of them go.
    const std::uint64_t each = mass_of(from_ordered_key(at.key), best);
    const std::uint64_t dropped = (tail - at.below) / each;
    threshold = at.key;
    if (dropped > 0) {
      const auto equal = [&](int i) { return ordered_key(score(i)) == threshold ? 1ULL : 0; };
      sum_in_order(block, vocab, equal);
      first_tie = locate(block, vocab, dropped, equal);
    }
  }
  const auto last_mass = [&](int i) -> std::uint64_t {
    const float at = score(i);
    if (lane.min_p > 0.0 && at < best && expf(at - best) < lane.min_p) return 0;
    return kept_mass(i).weight;
  };
  const std::uint64_t total = sum_in_order(block, vocab, last_mass);
  auto target = static_cast<std::uint64_t>(uniform_at(lane.seed, lane.num_observed) *
                                           static_cast<double>(total));
  if (target >= total) target = total - 1;
  return locate(block, vocab, target, last_mass);
}

// log_softmax() of the logits at the chosen token, and the most likely ones.
template <class T>
__device__ void write_logprobs(Block& block, const T* logits, int vocab, int count,
                               SampledToken& out, std::int32_t* ids, float* logprobs) {
  const auto logit = [&](int i) { return to_float(logits[i]); };
  Best at = best_of(block, vocab, logit, kAbove);
  const float best = logit(at.index());
  const std::uint64_t sum =
      sum_in_order(block, vocab, [&](int i) { return mass_of(logit(i), best); });
  const double norm = best + log(static_cast<double>(sum) * 0x1.0p-44);
  const auto logprob = [&](int i) {
    return static_cast<float>(static_cast<double>(logit(i)) - norm);
  };
  if (count > vocab) count = vocab;
  for (int n = 0; n < count; ++n) {
    if (n > 0) at = best_of(block, vocab, logit, at.packed);
    if (threadIdx.x != 0) continue;
    ids[n] = at.index();
    logprobs[n] = logprob(at.index());
  }
  if (threadIdx.x != 0) return;
  out.logprob = logprob(out.token);
  out.num_top = count;
}

// By thread 0: the token becomes part of the answer.
__device__ void advance(const SamplerArgs& args, int lane_index, int vocab, int token,
                        bool has_penalties) {
  SamplingLane& lane = args.lanes[lane_index];
  ++lane.num_observed;
  if (has_penalties) {
    TokenState& state = args.states[static_cast<std::int64_t>(lane_index) * vocab + token];
    if ((state & kAnsweredMask) != kAnsweredMask) ++state;
  }
  if (args.last_tokens != nullptr) args.last_tokens[lane_index] = token;
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    sample_kernel(const __grid_constant__ SamplerShape shape,
                  const __grid_constant__ SamplerArgs args) {
  __shared__ Block block;
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int row = static_cast<int>(blockIdx.x);
  const int lane_index = args.row_lane != nullptr ? args.row_lane[row] : row;
  SampledToken out;
  if (lane_index < 0) {
    if (threadIdx.x == 0) args.out[row] = out;
    return;
  }
  const SamplingLane lane = args.lanes[lane_index];
  const T* logits = static_cast<const T*>(args.logits) + row * shape.logits_stride;
  Scores<T> score{};
  score.logits = logits;
  score.shape = &shape;
  const bool has_penalties =
      args.states != nullptr && (lane.repetition_penalty != 1.0F || lane.presence_penalty != 0.0 ||
                                 lane.frequency_penalty != 0.0);
  if (has_penalties)
    score.states = args.states + static_cast<std::int64_t>(lane_index) * shape.vocab;
  score.repetition = lane.repetition_penalty;
  score.presence = lane.presence_penalty;
  score.frequency = lane.frequency_penalty;
  score.temperature = lane.temperature > 0.0F ? lane.temperature : 1.0F;
  score.bans_end = lane.num_observed < lane.min_tokens && shape.num_eos > 0;

  bool saw_bad = false;
  const bool is_plain = !has_penalties && !score.bans_end && score.temperature == 1.0F;
  const Best best = is_plain ? best_of_logits(block, logits, shape.vocab, saw_bad)
                             : best_of(
                                   block, shape.vocab,
                                   [&](int i) {
                                     saw_bad |= !isfinite(to_float(logits[i]));
                                     return score(i);
                                   },
                                   kAbove);
  if (__syncthreads_or(saw_bad ? 1 : 0) != 0) {
    out.status = SampleStatus::kNotFinite;
    if (threadIdx.x == 0) args.out[row] = out;
    return;
  }
  out.token = best.index();
  out.status = SampleStatus::kOk;
  const float best_score = score(out.token);
  if (lane.temperature > 0.0F && !isinf(best_score))
    out.token = draw(block, score, shape.vocab, best_score, lane);
  if (lane.num_logprobs >= 0) {
    int count = args.top_ids != nullptr ? lane.num_logprobs : 0;
    if (count > kMaxTopLogprobs) count = kMaxTopLogprobs;
    const std::int64_t at = static_cast<std::int64_t>(row) * kMaxTopLogprobs;
    write_logprobs(block, logits, shape.vocab, count, out, args.top_ids + at,
                   args.top_logprobs + at);
  }
  __syncthreads();  // all have read the lane's states
  if (threadIdx.x != 0) return;
  args.out[row] = out;
  advance(args, lane_index, shape.vocab, out.token, has_penalties);
}

__global__ void __launch_bounds__(kThreads)
    reset_kernel(TokenState* state, int vocab, const std::int32_t* token_ids, int num_prompt,
                 int num_answered) {
  wait_for_previous_kernel();
  let_next_kernel_start();
  for (int i = threadIdx.x; i < vocab; i += kThreads) state[i] = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < num_prompt; i += kThreads) {
    const std::int32_t token = token_ids[i];
    if (token >= 0 && token < vocab) state[token] = kInPrompt;  // all writers write the same
  }
  __syncthreads();
  for (int i = threadIdx.x; i < num_answered; i += kThreads) {
    const std::int32_t token = token_ids[num_prompt + i];
    if (token < 0 || token >= vocab) continue;
    unsigned short* const at = state + token;
    unsigned short old = *static_cast<volatile unsigned short*>(at);
    while ((old & kAnsweredMask) != kAnsweredMask) {
      const unsigned short seen = atomicCAS(at, old, static_cast<unsigned short>(old + 1));
      if (seen == old) break;
      old = seen;
    }
  }
}

}  // namespace

cudaError_t sample_tokens(const SamplerShape& shape, const SamplerArgs& args,
                          const Launch& launch) {
  if (shape.rows < 0 || shape.vocab < 1 || shape.vocab > kMaxSampledVocab ||
      shape.logits_stride < shape.vocab || shape.num_eos < 0 || shape.num_eos > kMaxEosTokens ||
      args.logits == nullptr || args.lanes == nullptr || args.out == nullptr ||
      (args.top_ids == nullptr) != (args.top_logprobs == nullptr))
    return cudaErrorInvalidValue;
  return with_type_of(shape.logits_dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return launch_kernel(sample_kernel<T>, dim3(static_cast<unsigned>(shape.rows)), dim3(kThreads),
                         0, launch, shape, args);
  });
}

cudaError_t reset_token_state(TokenState* state, std::int32_t vocab, const std::int32_t* token_ids,
                              std::int32_t num_prompt, std::int32_t num_answered,
                              const Launch& launch) {
  if (state == nullptr || vocab < 1 || num_prompt < 0 || num_answered < 0 ||
      (token_ids == nullptr && num_prompt + num_answered > 0))
    return cudaErrorInvalidValue;
  return launch_kernel(reset_kernel, dim3(1), dim3(kThreads), 0, launch, state, vocab, token_ids,
                       num_prompt, num_answered);
}

}  // namespace facet::kernels
