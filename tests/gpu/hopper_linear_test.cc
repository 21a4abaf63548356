// Hopper's products of decoding and of prefill against double sums at places drawn at random; that
// all of the output is written, nothing behind it, and that the bits are the same each time.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/linear/gated_linear.h"
#include "kernels/linear/stream_linear.h"
#include "tests/gpu/device_data.h"

namespace facet::kernels {
namespace {

using Size = std::size_t;

struct Case {
  int m, n, k;
  bool gated, bias;
  DType dtype = DType::kBf16;

  Size width() const { return static_cast<Size>(gated ? n / 2 : n); }
  Size values() const { return static_cast<Size>(m) * width(); }
};

std::string name_of(const char* kernel, const Case& c) {
  return std::string(kernel) + " " + name_of(c.dtype) + " " + std::to_string(c.m) + " x " +
         std::to_string(c.n) + " x " + std::to_string(c.k) + (c.gated ? " gated" : "") +
         (c.bias ? " bias" : "");
}

struct Data {
  std::vector<float> x, weight, bias;
};

// Of as many rows as it says; fewer of them make the same product's first rows.
Data make_data(const Case& c) {
  const Size m = static_cast<Size>(c.m), n = static_cast<Size>(c.n), k = static_cast<Size>(c.k);
  const float scale = 1.0F / std::sqrt(static_cast<float>(c.k));
  return {random_values(c.dtype, m * k, 2.0F), random_values(c.dtype, n * k, scale),
          random_values(c.dtype, n)};
}

double oracle(const Case& c, const Data& data, Size row, Size col) {
  const Size k = static_cast<Size>(c.k);
  const auto r = [&](double v) {
    return static_cast<double>(round_to(c.dtype, static_cast<float>(v)));
  };
  const auto product = [&](Size of) {
    double sum = c.bias ? data.bias[of] : 0.0;
    for (Size i = 0; i < k; ++i)
      sum += static_cast<double>(data.x[row * k + i]) * data.weight[of * k + i];
    return r(sum);
  };
  if (!c.gated) return product(col);
  const double gate = product(col);
  return r(r(gate / (1 + std::exp(-gate))) * product(c.width() + col));
}

// `run` gets x, weight, bias, out. Values behind the output stay as they were.
template <class Run>
std::vector<float> compute(const std::string& name, const Case& c, const Data& data, Run run) {
  constexpr Size kBehind = 4096;
  const DeviceBytes x = upload(c.dtype, data.x), weight = upload(c.dtype, data.weight);
  const DeviceBytes bias = upload(c.dtype, data.bias);
  DeviceBytes out((c.values() + kBehind) * 2);
  out.poison();
  check_cuda(run(x.get(), weight.get(), c.bias ? bias.get() : nullptr, out.get()), name.c_str());
  check_cuda(cudaDeviceSynchronize(), name.c_str());
  std::vector<float> all = download(c.dtype, out, c.values() + kBehind);
  for (Size i = c.values(); i < all.size(); ++i)
    if (!std::isnan(all[i])) {
      ADD_FAILURE() << name << ": wrote behind its output";
      break;
    }
  all.resize(c.values());
  return all;
}

void compare(const std::string& name, const Case& c, const Data& data,
             const std::vector<float>& got) {
  for (Size i = 0; i < got.size(); ++i)
    if (std::isnan(got[i])) {
      ADD_FAILURE() << name << ": " << i << " is not written";
      return;
    }
  constexpr Size kPlaces = 3000;
  std::mt19937_64 source(next_seed());
  std::vector<float> some;
  std::vector<double> want;
  const auto look_at = [&](Size place) {
    some.push_back(got[place]);
    want.push_back(oracle(c, data, place / c.width(), place % c.width()));
  };
  look_at(0);
  look_at(got.size() - 1);
  for (Size i = 0; i < kPlaces; ++i) look_at(source() % got.size());
  // A gate at a tie may round the other way, and its silu and product with it.
  const Tolerance ulp = one_ulp(c.dtype);
  expect_close(name, some, want, {ulp.relative * 3, ulp.relative});
}

class Stream {
 public:
  Stream() { counters_.zero(); }

  std::vector<float> run(const Case& c, const Data& data) {
    sums_.poison();  // free for anything between launches
    const StreamLinearShape shape{
        c.m, c.n, c.k, c.gated ? LinearEpilogue::kSiluMul : LinearEpilogue::kStore, c.dtype};
    const std::string name = name_of("stream_linear", c);
    return compute(name, c, data, [&](const void* x, const void* w, const void* bias, void* out) {
      return stream_linear(shape, {x, w, bias, out, sums_.get(), counters_.get()}, {});
    });
  }
  void check(const Case& c) { check(c, make_data(c)); }
  void check(const Case& c, const Data& data) {
    const std::string name = name_of("stream_linear", c);
    const std::vector<float> got = run(c, data);
    compare(name, c, data, got);
    expect_same_bits(name + ", again", run(c, data), got);
  }

 private:
  DeviceBytes sums_{kStreamLinearSumBytes}, counters_{kStreamLinearCounterBytes};
};

bool has_hopper() {
  return device_facts().capability == 90;
}

TEST(StreamLinear, EqualsDoubleSums) {
  if (!has_hopper()) GTEST_SKIP() << "not a Hopper GPU";
  Stream stream;
  for (const DType dtype : {DType::kBf16, DType::kFp16})
    for (Case c : {Case{64, 4608, 3584, false, true}, Case{64, 3584, 1024, false, false},
                   Case{64, 2560, 1032, true, false}, Case{64, 300, 2048, false, true},
                   Case{64, 8, 8, false, false}, Case{64, 16, 72, true, true}}) {
      c.dtype = dtype;
      const Data data = make_data(c);
      for (const int m : {1, 5, 16, 17, 32, 33, 40, 64}) {
        c.m = m;
        stream.check(c, data);
      }
    }
  stream.check({64, 37888, 3584, true, false});
  stream.check({16, 3584, 18944, false, false});
}

TEST(StreamLinear, RefusesShapesOutsideOfItsContract) {
  const auto fits = [](int m, int n, int k, LinearEpilogue epilogue, DType dtype) {
    return stream_linear_fits({m, n, k, epilogue, dtype});
  };
  using E = LinearEpilogue;
  EXPECT_FALSE(fits(65, 64, 64, E::kStore, DType::kBf16));
  EXPECT_FALSE(fits(0, 64, 64, E::kStore, DType::kBf16));
  EXPECT_FALSE(fits(8, 64, 63, E::kStore, DType::kBf16));
  EXPECT_FALSE(fits(8, 24, 64, E::kSiluMul, DType::kBf16));
  EXPECT_FALSE(fits(8, 64, 64, E::kStore, DType::kFp32));
  EXPECT_FALSE(fits(8, 1 << 22, 64, E::kStore, DType::kBf16));
  EXPECT_EQ(has_hopper(), fits(8, 64, 64, E::kStore, DType::kBf16));
  EXPECT_EQ(cudaErrorInvalidValue, stream_linear({65, 64, 64, E::kStore, DType::kBf16}, {}, {}));
}

std::vector<float> run_gated(const Case& c, const Data& data) {
  const GatedLinearShape shape{c.m, c.n, c.k, c.dtype};
  return compute(name_of("gated_linear", c), c, data,
                 [&](const void* x, const void* w, const void* bias, void* out) {
                   return gated_linear(shape, {x, w, bias, out}, {});
                 });
}

TEST(GatedLinear, EqualsDoubleSums) {
  if (!has_hopper()) GTEST_SKIP() << "not a Hopper GPU";
  for (const Case& c :
       {Case{256, 2560, 1280, true, true}, Case{300, 7168, 3584, true, false},
        Case{2048, 37888, 3584, true, false}, Case{511, 16, 72, true, true},
        Case{2600, 1040, 264, true, false}, Case{777, 22016, 2048, true, true, DType::kFp16}}) {
    const Data data = make_data(c);
    const std::vector<float> got = run_gated(c, data);
    compare(name_of("gated_linear", c), c, data, got);
    expect_same_bits(name_of("gated_linear", c) + ", again", run_gated(c, data), got);
  }
}

TEST(GatedLinear, RefusesShapesOutsideOfItsContract) {
  EXPECT_FALSE(gated_linear_fits({255, 64, 64, DType::kBf16}));
  EXPECT_FALSE(gated_linear_fits({256, 24, 64, DType::kBf16}));
  EXPECT_FALSE(gated_linear_fits({256, 64, 60, DType::kBf16}));
  EXPECT_FALSE(gated_linear_fits({256, 64, 64, DType::kFp32}));
  EXPECT_EQ(has_hopper(), gated_linear_fits({256, 64, 64, DType::kBf16}));
}

}  // namespace
}  // namespace facet::kernels
