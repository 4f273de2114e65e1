#include "check.h"
#include "guarded.h"
#include "oracle.h"
#include "tables.h"

namespace {

using guarded::Matrix;

struct Case {
  int64_t rows;
  int64_t dim;
  int64_t gap;
  bool gated;
  double offset;
  double scale;
};

void check_case(const lsif::cpu::KernelTable& table, const Case& c, oracle::Random& random) {
  Matrix weight(1, c.dim), bias(1, c.dim), x(c.rows, c.dim, c.dim + c.gap), gate(c.rows, c.dim, c.dim + 2 * c.gap);
  Matrix y(c.rows, c.dim, c.dim + 3 * c.gap);
  weight.fill([&] { return random.normal(); });
  bias.fill([&] { return random.normal(); });
  x.fill([&] { return static_cast<float>(c.offset) + random.normal(c.scale); });
  gate.fill([&] { return random.normal(); });
  const lsif::LayerNormParams params = {weight.data(), bias.data(), c.dim, 1e-5f};
  table.layer_norm(params, x.data(), x.stride(), c.gated ? gate.data() : nullptr, c.gated ? gate.stride() : 0, y.data(),
                   y.stride(), c.rows);
  CHECK(y.gaps_intact());
  for (int64_t r = 0; r < c.rows; ++r) {
    const auto expected =
        oracle::layer_norm(x.row(r), weight.data(), bias.data(), c.gated ? gate.row(r) : nullptr, c.dim, params.eps);
    for (int64_t k = 0; k < c.dim; ++k) CHECK_NEAR(y.at(r, k), expected[k].value, expected[k].error);
  }
  // In place, row by row: the same bits.
  for (int64_t r = 0; r < c.rows; ++r) {
    table.layer_norm(params, x.row(r), 0, c.gated ? gate.row(r) : nullptr, 0, x.row(r), 0, 1);
    CHECK(guarded::same_bits(x, r, y, r));
  }
  CHECK(x.gaps_intact());
}

TEST(layer_norm_keeps_the_contract) {
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    oracle::Random random(2);
    for (int64_t dim : {1, 2, 3, 7, 8, 9, 16, 17, 33, 64, 100}) {
      for (int64_t rows : {0, 1, 5}) {
        for (bool gated : {false, true}) {
          check_case(*table, {rows, dim, 0, gated, 0, 1}, random);
          check_case(*table, {rows, dim, 3, gated, 5, 0.1}, random);
        }
      }
    }
  }
}

TEST(layer_norm_survives_extremes) {
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    oracle::Random random(3);
    for (double scale : {0.0, 1e-20, 1e-3, 1e4, 1e15}) check_case(*table, {3, 64, 1, false, 0, scale}, random);
    check_case(*table, {3, 64, 1, true, 1, 0}, random);  // constant rows: only eps is left in the denominator
  }
}

}  // namespace
