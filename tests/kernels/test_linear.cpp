#include "check.h"
#include "guarded.h"
#include "oracle.h"
#include "tables.h"

namespace {

using guarded::Array;
using guarded::Matrix;
using lsif::Activation;

struct Layer {
  Layer(int64_t in_dim, int64_t out_dim, bool with_bias, Activation activation, oracle::Random& random,
        double scale = 0.3, bool in_bf16 = false)
      : weight(out_dim, in_dim),
        bias(1, out_dim),
        packed(in_bf16 ? 0 : lsif::packed_linear_size(in_dim, out_dim)),
        packed_bf16(in_bf16 ? lsif::packed_bf16_size(in_dim, out_dim) : 0) {
    weight.fill([&] { return random.normal(scale); });
    bias.fill([&] { return random.normal(); });
    params = {nullptr, with_bias ? bias.data() : nullptr, in_dim, out_dim, activation};
    if (in_bf16) {
      lsif::pack_linear_bf16(weight.data(), in_dim, out_dim, packed_bf16.data());
      params.packed_bf16 = packed_bf16.data();
    } else {
      lsif::pack_linear(weight.data(), in_dim, out_dim, packed.data());
      params.packed = packed.data();
    }
  }

  // The value that is multiplied for x or a weight.
  float used(float x) const { return params.packed_bf16 == nullptr ? x : oracle::to_bfloat16(x); }

  Matrix weight;
  Matrix bias;
  Array<float> packed;  // whole panels of 64 bytes, ending at a page: aligned as the contract requires
  Array<uint16_t> packed_bf16;
  lsif::LinearParams params;
};

void check_rows(const lsif::cpu::KernelTable& table, const Layer& layer, int64_t rows, int64_t gap, bool with_residual,
                oracle::Random& random, double scale = 1) {
  const lsif::LinearParams& params = layer.params;
  Matrix x(rows, params.in_dim, params.in_dim + gap);
  Matrix residual(rows, params.out_dim, params.out_dim + 2 * gap);
  Matrix y(rows, params.out_dim, params.out_dim + 3 * gap);
  x.fill([&] { return random.normal(scale); });
  residual.fill([&] { return random.normal(); });
  table.linear(params, x.data(), x.stride(), with_residual ? residual.data() : nullptr,
               with_residual ? residual.stride() : 0, y.data(), y.stride(), rows);
  CHECK(y.gaps_intact());
  const oracle::Sums sums = params.packed_bf16 == nullptr ? lsif::cpu::sums_of(table) : oracle::Sums::kBfloat16;
  Matrix used_weight(params.out_dim, params.in_dim);
  for (int64_t o = 0; o < params.out_dim; ++o) {
    for (int64_t i = 0; i < params.in_dim; ++i) used_weight.at(o, i) = layer.used(layer.weight.at(o, i));
  }
  for (int64_t r = 0; r < rows; ++r) {
    std::vector<oracle::Approx> used = oracle::exact(x.row(r), params.in_dim);
    for (oracle::Approx& value : used) value.value = layer.used(static_cast<float>(value.value));
    const auto expected =
        oracle::linear(used_weight.data(), params.bias, params.in_dim, params.out_dim, params.activation, used, sums);
    for (int64_t o = 0; o < params.out_dim; ++o) {
      const double value = expected[o].value + (with_residual ? residual.at(r, o) : 0.0f);
      CHECK_NEAR(y.at(r, o), value,
                 expected[o].error + oracle::kUnit * std::fabs(value) + oracle::kUnit * expected[o].error);
    }
  }
  // Row by row, in place of the residual: the same bits.
  Matrix alone(rows, params.out_dim);
  for (int64_t r = 0; r < rows; ++r) {
    if (with_residual) std::memcpy(alone.row(r), residual.row(r), static_cast<size_t>(params.out_dim) * sizeof(float));
    table.linear(params, x.row(r), 0, with_residual ? alone.row(r) : nullptr, 0, alone.row(r), 0, 1);
    CHECK(guarded::same_bits(alone, r, y, r));
  }
}

TEST(pack_linear_lays_out_panels) {
  const int64_t in_dim = 3, out_dim = lsif::kLinearPanel + 2;
  oracle::Random random(4);
  const Layer layer(in_dim, out_dim, false, Activation::kIdentity, random);
  CHECK(layer.packed.front_intact());
  for (int64_t p = 0; p < 2; ++p) {
    for (int64_t i = 0; i < in_dim; ++i) {
      for (int64_t c = 0; c < lsif::kLinearPanel; ++c) {
        const int64_t o = p * lsif::kLinearPanel + c;
        const float expected = o < out_dim ? layer.weight.at(o, i) : 0.0f;
        CHECK(layer.packed[(p * in_dim + i) * lsif::kLinearPanel + c] == expected);
      }
    }
  }
}

TEST(pack_linear_bf16_lays_out_pairs) {
  const int64_t in_dim = 5, out_dim = lsif::kLinearPanel + 2;
  oracle::Random random(4);
  Layer layer(in_dim, out_dim, false, Activation::kIdentity, random, 0.3, true);
  const float ties[] = {1 + 0x1p-8f, 1 + 0x3p-8f, -(1 + 0x1p-8f), 1 + 0x1p-8f + 0x1p-23f};  // to even, to even, .., up
  for (int64_t i = 0; i < 4; ++i) layer.weight.at(0, i) = ties[i];
  lsif::pack_linear_bf16(layer.weight.data(), in_dim, out_dim, layer.packed_bf16.data());
  CHECK(layer.packed_bf16.front_intact());
  for (int64_t p = 0; p < 2; ++p) {
    for (int64_t i = 0; i < 6; ++i) {
      for (int64_t c = 0; c < lsif::kLinearPanel; ++c) {
        const int64_t o = p * lsif::kLinearPanel + c;
        const uint32_t bits = layer.packed_bf16[((p * 3 + i / 2) * lsif::kLinearPanel + c) * 2 + i % 2];
        float value;
        const uint32_t shifted = bits << 16;
        std::memcpy(&value, &shifted, sizeof(value));
        CHECK(value == (o < out_dim && i < in_dim ? oracle::to_bfloat16(layer.weight.at(o, i)) : 0.0f));
      }
    }
  }
}

TEST(linear_keeps_the_contract_in_bfloat16) {
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    oracle::Random random(9);
    for (int64_t in_dim : {1, 2, 3, 17, 64, 511, 512, 513, 1030}) {
      for (int64_t out_dim : {1, 16, 17, 63, 64, 65, 130}) {
        if (in_dim > 64 && out_dim % 2 == 1) continue;  // enough cases without these
        const Layer layer(in_dim, out_dim, out_dim % 2 == 0, Activation::kIdentity, random, 0.3, true);
        for (int64_t rows : {0, 1, 2, 6, 7, 25}) check_rows(*table, layer, rows, rows % 2 * 3, rows % 3 != 0, random);
      }
    }
    for (Activation activation : {Activation::kRelu, Activation::kGelu, Activation::kSilu}) {
      const Layer layer(19, 37, true, activation, random, 0.3, true);
      for (int64_t rows : {1, 4, 11}) check_rows(*table, layer, rows, 1, true, random);
      const Layer large(64, 48, true, activation, random, 10, true);
      for (double scale : {0.0, 1e-30, 1e4, 1e15, 1e30}) check_rows(*table, large, 7, 0, false, random, scale);
    }
  }
}

TEST(bfloat16_rounds_to_nearest_even_and_keeps_nan) {
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    oracle::Random random(10);
    Layer layer(1, 1, false, Activation::kIdentity, random, 0.3, true);
    layer.weight.at(0, 0) = 1.0f;
    lsif::pack_linear_bf16(layer.weight.data(), 1, 1, layer.packed_bf16.data());
    std::vector<float> x = {std::nanf(""), HUGE_VALF};
    uint32_t bits = 0x7F800001;  // a NaN whose upper half is that of infinity
    std::memcpy(&x.emplace_back(), &bits, sizeof(bits));
    for (const double power : {-100.0, 0.0, 100.0}) {
      for (int i = 0; i < 2048; ++i) {  // every tie in an octave, and its neighbours
        const auto tie = static_cast<float>((1 + i / 2048.0) * std::exp2(power));
        x.insert(x.end(), {tie, std::nextafter(tie, HUGE_VALF), std::nextafter(tie, 0.0f), -tie});
      }
    }
    std::vector<float> y(x.size());
    table->linear(layer.params, x.data(), 1, nullptr, 0, y.data(), 1, static_cast<int64_t>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      CHECK(std::isnan(x[i]) ? std::isnan(y[i]) : y[i] == oracle::to_bfloat16(x[i]));
    }
  }
}

TEST(linear_keeps_the_contract_for_every_shape) {
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    oracle::Random random(5);
    for (int64_t in_dim : {1, 3, 17, 64}) {
      for (int64_t out_dim : {1, 2, 7, 15, 16, 17, 31, 33, 63, 64, 65, 80, 130}) {
        const Layer layer(in_dim, out_dim, out_dim % 2 == 1, Activation::kIdentity, random);
        for (int64_t rows : {0, 1, 2, 5, 6, 7, 13})
          check_rows(*table, layer, rows, rows % 2 * 3, rows % 3 != 0, random);
      }
    }
  }
}

// Sizes beyond a GPU's tiles, whose size depends on the numbers of rows, outputs and inputs.
TEST(linear_keeps_the_contract_beyond_a_tile) {
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    oracle::Random random(8);
    const auto check = [&](int64_t rows, int64_t in_dim, int64_t out_dim) {
      const Layer layer(in_dim, out_dim, true, Activation::kIdentity, random);
      check_rows(*table, layer, rows, 0, rows % 2 == 1, random);
      check_rows(*table, layer, rows, 1, rows % 2 == 0, random);
    };
    check(70, 64, 256);
    check(47, 80, 130);
    check(47, 80, 100);
    check(33, 144, 130);
    check(17, 451, 40);
    check(16, 899, 65);
    check(3, 2100, 20);
    check(40, 33, 20);
  }
}

// The single output of a single row.
float output(const lsif::cpu::KernelTable& table, const std::vector<float>& x, const std::vector<float>& w) {
  oracle::Random random(1);
  Layer layer(static_cast<int64_t>(x.size()), 1, false, Activation::kIdentity, random);
  std::copy(w.begin(), w.end(), layer.weight.row(0));
  lsif::pack_linear(layer.weight.data(), layer.params.in_dim, 1, layer.packed.data());
  Matrix in(1, layer.params.in_dim), y(1, 1);
  std::copy(x.begin(), x.end(), in.row(0));
  table.linear(layer.params, in.data(), 0, nullptr, 0, y.data(), 0, 1);
  return y.at(0, 0);
}

// The relative error, in units of 2^-24.
double lost(const lsif::cpu::KernelTable& table, const std::vector<float>& x, const std::vector<float>& w) {
  double exact = 0;
  for (size_t i = 0; i < x.size(); ++i) exact += static_cast<double>(x[i]) * w[i];
  return std::fabs(output(table, x, w) - exact) / oracle::kUnit / exact;
}

// Checks the constants of the bound (encoder_linear.cuh). PTX does not specify the truncation; the emulation uses the
// most.
TEST(tf32_loses_what_the_bound_says) {
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    if (lsif::cpu::sums_of(*table) != oracle::Sums::kTf32) continue;
    const float longest = 1 + 4095 * 0x1p-23f;
    const double parts = lost(*table, {longest}, {longest});
    CHECK(parts > 7.9 && parts < 8.1);
    const float tiny = 0x1p-116f * longest;  // its lower part is below 2^-126
    const float large = 1024;
    const auto expected =
        oracle::linear(&large, nullptr, 1, 1, Activation::kIdentity, {{tiny, 0}}, oracle::Sums::kTf32);
    CHECK_NEAR(output(*table, {tiny}, {large}), expected[0].value, expected[0].error);
    std::vector<float> w(16, 0x1p-23f - 0x1p-33f);
    w[0] = 1;
    CHECK(lost(*table, std::vector<float>(16, 1.0f), w) < 36);
#if defined(LSIF_CUDA_EMULATED)
    CHECK(lost(*table, std::vector<float>(16, 1.0f), w) > 29);
#endif
  }
}

TEST(linear_applies_activation_then_residual) {
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    oracle::Random random(6);
    for (Activation activation : {Activation::kIdentity, Activation::kRelu, Activation::kGelu, Activation::kSilu}) {
      for (bool with_residual : {false, true}) {
        for (bool with_bias : {false, true}) {
          const Layer layer(19, 37, with_bias, activation, random);
          for (int64_t rows : {1, 4, 11}) check_rows(*table, layer, rows, 1, with_residual, random);
        }
      }
    }
  }
}

TEST(linear_survives_extreme_magnitudes) {
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    oracle::Random random(7);
    for (Activation activation : {Activation::kIdentity, Activation::kRelu, Activation::kGelu, Activation::kSilu}) {
      const Layer layer(64, 48, true, activation, random, 10);
      for (double scale : {0.0, 1e-30, 1e4, 1e15, 1e30}) check_rows(*table, layer, 7, 0, false, random, scale);
    }
  }
}

}  // namespace
