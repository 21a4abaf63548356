// A whole decode step, layer by layer with weights of its own for each, as one captured graph.
#include <memory>

#include "kernels/attention/paged_decode_attention.h"
#include "kernels/linear/gemv.h"
#include "kernels/norm/rms_norm.h"
#include "kernels/rope/rope_kv_write.h"
#include "tests/gpu/bench.h"

namespace facet::kernels::bench {
namespace {

struct Model {
  const char* name;
  int layers, hidden, inter, heads, kv_heads, vocab;
  int packed() const { return (heads + 2 * kv_heads) * 128; }
  double weight_bytes() const {
    const double layer = static_cast<double>(packed()) * hidden +
                         static_cast<double>(heads) * 128 * hidden + 3.0 * inter * hidden;
    return 2 * (layers * layer + static_cast<double>(vocab) * hidden);
  }
};
constexpr Model kModels[] = {{"7B", 28, 3584, 18944, 28, 4, 152064},
                             {"3B", 36, 2048, 11008, 16, 2, 151936}};

class Step {
 public:
  Step(const Model& model, int m, int context)
      : model_(model),
        m_(m),
        layer_elements_(static_cast<std::size_t>(model.weight_bytes() / 2 -
                                                 static_cast<double>(model.vocab) * model.hidden) /
                        static_cast<std::size_t>(model.layers)),
        max_blocks_(context / 16 + 1),
        weights_(random_bf16(
            layer_elements_ * static_cast<std::size_t>(model.layers) +
                static_cast<std::size_t>(model.vocab) * static_cast<std::size_t>(model.hidden),
            0.02F)),
        pool_(random_bf16(static_cast<std::size_t>(model.layers) * 2 * pool_elements(), 1.0F)),
        norms_(random_bf16(16384, 1.0F)),
        hidden_(random_bf16(16U * static_cast<unsigned>(model.hidden), 1.0F)),
        qkv_(16U * static_cast<unsigned>(model.packed()) * 2),
        attended_(16U * static_cast<unsigned>(model.heads) * 256),
        inner_(16U * static_cast<unsigned>(model.inter) * 2),
        logits_(16U * static_cast<unsigned>(model.vocab) * 4),
        frequencies_(upload_raw(std::vector<float>(64, 0.01F))),
        positions_(upload_raw(std::vector<std::int32_t>(48, context))),
        index_(upload_raw(std::vector<std::int32_t>(16, context))),
        lengths_(upload_raw(std::vector<std::int32_t>(16, context + 1))),
        table_(upload_raw(identity_table())),
        workspace_(paged_decode_workspace_bytes(attention_shape())) {
    workspace_.zero();
  }

  cudaError_t run(const Launch& launch) const {
    Launch first = launch;
    for (int layer = 0; layer < model_.layers; ++layer) {
      if (const cudaError_t error = run_layer(layer, first); error != cudaSuccess) return error;
    }
    const char* head = weights() + layer_bytes() * static_cast<std::size_t>(model_.layers);
    return linear(model_.vocab, model_.hidden, GemvEpilogue::kStore, hidden_.get(), true, head,
                  logits_.get(), false, launch);
  }
  double bytes(int context) const {
    return model_.weight_bytes() +
           static_cast<double>(m_) * context * model_.layers * 512 * model_.kv_heads;
  }

 private:
  std::size_t pool_elements() const {
    return static_cast<std::size_t>(m_ * max_blocks_ * 16 * model_.kv_heads * 128);
  }
  std::vector<std::int32_t> identity_table() const {
    std::vector<std::int32_t> table;
    for (int i = 0; i < m_ * max_blocks_; ++i) table.push_back(i);
    return table;
  }
  const char* weights() const { return static_cast<const char*>(weights_.get()); }
  std::size_t layer_bytes() const { return layer_elements_ * 2; }
  KvLayout layout() const { return {16LL * model_.kv_heads * 128, 128, 16 * 128}; }
  PagedDecodeShape attention_shape() const {
    return {m_, model_.heads, model_.kv_heads, 128, max_blocks_, 0, 0.088F, DType::kBf16, layout()};
  }

  cudaError_t linear(int n, int k, GemvEpilogue epilogue, const void* x, bool norm,
                     const void* weight, void* out, bool bias, const Launch& launch) const {
    const int width = epilogue == GemvEpilogue::kSiluMul ? n / 2 : n;
    return gemv(
        {m_, n, k, epilogue, 1e-6F},
        {x, k, norm ? norms_.get() : nullptr, weight, bias ? norms_.get() : nullptr, out, width},
        launch);
  }

  cudaError_t run_layer(int layer, const Launch& launch) const {
    const char* at = weights() + layer_bytes() * static_cast<std::size_t>(layer);
    const auto take = [&](int n, int k) {
      const char* from = at;
      at += static_cast<std::size_t>(n) * static_cast<std::size_t>(k) * 2;
      return from;
    };
    const auto ints = [](const DeviceBytes& d) {
      return static_cast<const std::int32_t*>(d.get());
    };
    const int hidden = model_.hidden, inter = model_.inter, packed = model_.packed();
    char* keys =
        static_cast<char*>(pool_.get()) + static_cast<std::size_t>(layer) * 4 * pool_elements();
    char* values = keys + 2 * pool_elements();
    cudaError_t error = linear(packed, hidden, GemvEpilogue::kStore, hidden_.get(), true,
                               take(packed, hidden), qkv_.get(), true, launch);
    if (error != cudaSuccess) return error;
    RopeShape rope{m_,           model_.heads, model_.kv_heads, 128,
                   {16, 24, 24}, max_blocks_,  DType::kBf16,    layout()};
    error =
        rope_kv_write(rope,
                      {qkv_.get(), packed, nullptr, static_cast<const float*>(frequencies_.get()),
                       ints(positions_), keys, values, ints(table_), nullptr, ints(index_)},
                      launch);
    if (error != cudaSuccess) return error;
    error = paged_decode_attention(attention_shape(),
                                   {qkv_.get(), packed, keys, values, ints(table_), ints(lengths_),
                                    attended_.get(), workspace_.get()},
                                   launch);
    if (error != cudaSuccess) return error;
    error = linear(hidden, model_.heads * 128, GemvEpilogue::kAddInto, attended_.get(), false,
                   take(hidden, model_.heads * 128), hidden_.get(), false, launch);
    if (error != cudaSuccess) return error;
    error = linear(2 * inter, hidden, GemvEpilogue::kSiluMul, hidden_.get(), true,
                   take(2 * inter, hidden), inner_.get(), false, launch);
    if (error != cudaSuccess) return error;
    return linear(hidden, inter, GemvEpilogue::kAddInto, inner_.get(), false, take(hidden, inter),
                  hidden_.get(), false, launch);
  }

  Model model_;
  int m_;
  std::size_t layer_elements_;
  int max_blocks_;
  DeviceBytes weights_, pool_, norms_, hidden_, qkv_, attended_, inner_, logits_;
  DeviceBytes frequencies_, positions_, index_, lengths_, table_, workspace_;
};

}  // namespace

void bench_step(Bench& bench) {
  constexpr int kContext = 895;
  for (const Model& model : kModels)
    for (const int m : {1, 2, 4}) {
      const Step step(model, m, kContext);
      for (const bool overlap : {true, false}) {
        const std::string name = std::string("decode step ") + model.name + " batch " +
                                 std::to_string(m) + (overlap ? "" : ", no overlap");
        bench.add(name,
                  bench.time(2,
                             [&](int) {
                               return step.run({bench.stream(), overlap});
                             }),
                  step.bytes(kContext));
      }
    }
}

}  // namespace facet::kernels::bench
