#include <limits>

#include "check.h"
#include "guarded.h"
#include "oracle.h"
#include "simd_probes.h"

namespace {

using guarded::Array;
using lsif::cpu::probes;
using lsif::cpu::SimdProbe;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

float bits_to_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// About `count` floats of both signs and all exponents, evenly spaced in their bit patterns.
std::vector<float> all_magnitudes(uint32_t count) {
  std::vector<float> values;
  const uint32_t step = 0x7F800000u / count;
  for (uint32_t bits = 0; bits < 0x7F800000u; bits += step) {
    values.push_back(bits_to_float(bits));
    values.push_back(bits_to_float(bits | 0x80000000u));
  }
  return values;
}

std::vector<float> evenly(double low, double high, int count) {
  std::vector<float> values;
  for (int i = 0; i <= count; ++i) values.push_back(static_cast<float>(low + (high - low) * i / count));
  return values;
}

using Map = void (*)(const float*, int64_t, float*);

std::vector<float> mapped(Map map, const std::vector<float>& x) {
  std::vector<float> y(x.size());
  map(x.data(), static_cast<int64_t>(x.size()), y.data());
  return y;
}

// The distance between neighbouring floats at x.
double ulp(double x) {
  if (std::fabs(x) < 0x1p-126) return 0x1p-149;
  return std::ldexp(1.0, std::ilogb(x) - 23);
}

// Subnormal results: the relative error of normal ones, plus one rounding.
void check_subnormal(Map map, double (*expected)(double), const std::vector<float>& x) {
  const std::vector<float> y = mapped(map, x);
  for (size_t i = 0; i < x.size(); ++i) {
    const double value = expected(static_cast<double>(x[i]));
    CHECK_NEAR(y[i], value, 2 * 0x1p-24 * value + 0x1p-149);
  }
}

TEST(every_runnable_table_is_probed) { CHECK(probes().size() == lsif::cpu::tested_kernels().size()); }

TEST(exp_is_within_two_ulp) {
  for (const SimdProbe* probe : probes()) {
    double worst = 0;
    for (const std::vector<float>& x :
         {evenly(-87.33, 88.72, 1000003), evenly(-1, 1, 200003), all_magnitudes(100003)}) {
      const std::vector<float> y = mapped(probe->exp, x);
      for (size_t i = 0; i < x.size(); ++i) {
        const double expected = std::exp(static_cast<double>(x[i]));
        if (expected < 0x1p-126 || expected > std::numeric_limits<float>::max()) continue;
        CHECK_NEAR(y[i], expected, 2 * ulp(expected));
        worst = std::fmax(worst, std::fabs(y[i] - expected) / ulp(expected));
      }
    }
    std::printf("%s: exp is off by at most %.3f ulp\n", probe->isa, worst);
  }
}

TEST(exp_ends_right) {
  for (const SimdProbe* probe : probes()) {
    const std::vector<float> x = {kInfinity, 88.73f, 1e30f, -kInfinity, -104.0f, -1e30f, kNan, 0.0f, -0.0f};
    const std::vector<float> y = mapped(probe->exp, x);
    for (int i : {0, 1, 2}) CHECK(y[i] == kInfinity);
    for (int i : {3, 4, 5}) CHECK(y[i] == 0.0f);
    CHECK(std::isnan(y[6]));
    CHECK(y[7] == 1.0f && y[8] == 1.0f);
    check_subnormal(probe->exp, [](double exponent) { return std::exp(exponent); }, evenly(-103.9, -87.34, 10007));
  }
}

TEST(exp2_is_within_its_error_and_ends_right) {
  for (const SimdProbe* probe : probes()) {
    double worst = 0;
    for (const std::vector<float>& x : {evenly(-126, 127, 1000003), evenly(-1, 1, 200003), all_magnitudes(100003)}) {
      const std::vector<float> y = mapped(probe->exp2, x);
      for (size_t i = 0; i < x.size(); ++i) {
        const double expected = std::exp2(static_cast<double>(x[i]));
        if (expected < 0x1p-126 || x[i] > 127) continue;
        CHECK_NEAR(y[i], expected, 1.25 * ulp(expected));
        worst = std::fmax(worst, std::fabs(y[i] - expected) / ulp(expected));
      }
    }
    std::printf("%s: exp2 is off by at most %.3f ulp\n", probe->isa, worst);
    CHECK(worst > (probe->fused ? 0.9 : 1.1));
    const std::vector<float> ends = mapped(probe->exp2, {-kInfinity, -151.0f, -1e30f, kNan, 0.0f, 127.0f, -149.0f});
    for (int i : {0, 1, 2}) CHECK(ends[i] == 0.0f);
    CHECK(std::isnan(ends[3]));
    CHECK(ends[4] == 1.0f && ends[5] == 0x1p127f && ends[6] == 0x1p-149f);
    check_subnormal(probe->exp2, [](double exponent) { return std::exp2(exponent); }, evenly(-150.9, -126, 10007));
  }
}

// The lower bound guarantees that no row is wrongly dropped (docs/score_topk.md, "Rounding and range").
TEST(exp2_above_lies_above_and_ends_right) {
  for (const SimdProbe* probe : probes()) {
    double least = 1, most = 0;
    for (const std::vector<float>& x : {evenly(-252, 252, 2000003), evenly(-2, 2, 400009), all_magnitudes(100003)}) {
      const std::vector<float> y = mapped(probe->exp2_above, x);
      for (size_t i = 0; i < x.size(); ++i) {
        const double power = std::exp2(static_cast<double>(x[i]));
        const double rounding = power < 0x1p-126 ? 0x1p-149 : 0;
        const double limit = power * (1 + 0x1p-8) + rounding;
        if (std::isnan(y[i]) && limit > std::numeric_limits<float>::max()) continue;
        CHECK(y[i] >= std::fmin(power * (1 + 0x1p-14), 0x1p128) - rounding);
        CHECK(y[i] <= limit || limit > std::numeric_limits<float>::max());
        if (power < 0x1p-126 || std::isinf(y[i])) continue;
        least = std::fmin(least, y[i] / power - 1);
        most = std::fmax(most, y[i] / power - 1);
      }
    }
    std::printf("%s: exp2_above is 2^%.2f to 2^%.2f above\n", probe->isa, std::log2(least), std::log2(most));
    const std::vector<float> x = {kInfinity, 128.0f, 252.0f, 253.0f, 1e30f, kNan, -kInfinity, -152.0f, -253.0f, -1e30f};
    const std::vector<float> y = mapped(probe->exp2_above, x);
    for (size_t i = 0; i < 6; ++i) CHECK(y[i] == kInfinity || std::isnan(y[i]));
    for (size_t i = 6; i < x.size(); ++i) CHECK(y[i] == 0.0f);
  }
}

TEST(activations_keep_their_documented_errors) {
  for (const SimdProbe* probe : probes()) {
    for (const std::vector<float>& x : {evenly(-20, 20, 400009), evenly(-0.1, 0.1, 50021), all_magnitudes(50021)}) {
      const std::vector<float> relu = mapped(probe->relu, x);
      const std::vector<float> gelu = mapped(probe->gelu, x);
      const std::vector<float> coarse = mapped(probe->coarse_gelu, x);
      const std::vector<float> silu = mapped(probe->silu, x);
      for (size_t i = 0; i < x.size(); ++i) {
        const oracle::Approx argument = {x[i], 0};
        const oracle::Approx g = oracle::activate(lsif::Activation::kGelu, argument);
        const oracle::Approx cg = oracle::activate(lsif::Activation::kGelu, argument, true);
        const oracle::Approx s = oracle::activate(lsif::Activation::kSilu, argument);
        CHECK(relu[i] == (x[i] > 0 ? x[i] : 0.0f));
        CHECK_NEAR(gelu[i], g.value, g.error);
        CHECK_NEAR(coarse[i], cg.value, cg.error);
        CHECK_NEAR(silu[i], s.value, s.error);
      }
    }
    for (Map map : {probe->relu, probe->gelu, probe->coarse_gelu, probe->silu}) {
      const std::vector<float> y = mapped(map, {kNan, kInfinity});
      CHECK(std::isnan(y[0]));
      CHECK(y[1] == kInfinity);
    }
  }
}

TEST(gelu_uses_the_error_it_documents) {
  for (const SimdProbe* probe : probes()) {
    double worst = 0;
    const std::vector<float> x = evenly(-5.25, 0, 1000003);
    const std::vector<float> y = mapped(probe->gelu, x);
    for (size_t i = 0; i + 1 < x.size(); ++i) {
      worst = std::fmax(worst, std::fabs(y[i] - oracle::gelu(x[i])) / (oracle::kUnit * std::fabs(x[i])));
    }
    std::printf("%s: gelu is off by at most %.2f 2^-24 of its argument\n", probe->isa, worst);
    CHECK(worst > oracle::kGeluUnits / 2);
    const std::vector<float> coarse = mapped(probe->coarse_gelu, x);
    worst = 0;
    for (size_t i = 0; i + 1 < x.size(); ++i) {
      worst = std::fmax(worst, std::fabs(coarse[i] - oracle::gelu(x[i])) / std::fmin(std::fabs(x[i]), 1));
    }
    CHECK(worst > 0.9 * oracle::kCoarseGelu);
  }
}

TEST(vectors_are_scaled_by_powers_of_two_and_interleaved) {
  for (const SimdProbe* probe : probes()) {
    const int64_t lanes = probe->lanes;
    Array<float> a(lanes), b(lanes), out(2 * lanes);
    for (const int power : {-252, -151, -149, -127, -126, -1, 0, 1, 127, 128, 254}) {
      for (int64_t i = 0; i < lanes; ++i) {
        a[i] = 1.0f + static_cast<float>(i) / 64.0f;
        b[i] = static_cast<float>(power);
      }
      probe->scale_pow2(a.data(), b.data(), out.data());
      for (int64_t i = 0; i < lanes; ++i) CHECK(out[i] == std::ldexp(a[i], power));
    }
    for (int64_t i = 0; i < lanes; ++i) {
      a[i] = static_cast<float>(2 * i);
      b[i] = static_cast<float>(2 * i + 1);
    }
    probe->interleave(a.data(), b.data(), out.data());
    for (int64_t i = 0; i < 2 * lanes; ++i) CHECK(out[i] == static_cast<float>(i));
  }
}

TEST(partial_vectors_touch_only_their_lanes) {
  for (const SimdProbe* probe : probes()) {
    for (int64_t n = 0; n <= probe->lanes; ++n) {
      Array<float> x(n);  // ends at an unreadable page: a read past n stops the test
      for (int64_t i = 0; i < n; ++i) x[i] = static_cast<float>(i + 1);
      Array<float> y(n);
      probe->copy_first(x.data(), n, y.data());
      CHECK(y.front_intact());
      for (int64_t i = 0; i < n; ++i) CHECK(y[i] == x[i]);
      Array<float> lanes(probe->lanes);
      probe->load_first(x.data(), n, lanes.data());
      for (int64_t i = 0; i < probe->lanes; ++i) CHECK(lanes[i] == (i < n ? x[i] : 0.0f));
      Array<float> whole(probe->lanes);
      for (int64_t i = 0; i < probe->lanes; ++i) whole[i] = static_cast<float>(i + 1);
      probe->keep_first(whole.data(), n, lanes.data());
      for (int64_t i = 0; i < probe->lanes; ++i) CHECK(lanes[i] == (i < n ? whole[i] : -1.0f));
    }
  }
}

TEST(stores_keep_the_lanes_after_them) {
  for (const SimdProbe* probe : probes()) {
    for (int64_t n = 0; n <= probe->lanes; ++n) {
      const std::vector<float> x(static_cast<size_t>(probe->lanes), 1.0f);
      std::vector<float> y(static_cast<size_t>(probe->lanes), 2.0f);
      probe->copy_first(x.data(), n, y.data());
      for (int64_t i = 0; i < probe->lanes; ++i) CHECK(y[static_cast<size_t>(i)] == (i < n ? 1.0f : 2.0f));
    }
  }
}

TEST(arithmetic_is_that_of_single_floats) {
  for (const SimdProbe* probe : probes()) {
    const int64_t lanes = probe->lanes;
    oracle::Random random(5);
    for (int round = 0; round < 100; ++round) {
      Array<float> a(lanes), b(lanes), c(lanes), out(7 * lanes);
      for (Array<float>* values : {&a, &b, &c}) {
        for (int64_t i = 0; i < lanes; ++i) (*values)[i] = random.normal(3);
      }
      probe->arithmetic(a.data(), b.data(), c.data(), out.data());
      double sum = 0, magnitude = 0;
      float highest = a[0];
      for (int64_t i = 0; i < lanes; ++i) {
        const volatile float product = a[i] * b[i];  // volatile: no contraction here
        CHECK(out[i] == a[i] + b[i]);
        CHECK(out[lanes + i] == a[i] - b[i]);
        CHECK(out[2 * lanes + i] == product);
        CHECK(out[3 * lanes + i] == a[i] / b[i]);
        CHECK(out[4 * lanes + i] == (probe->fused ? std::fma(a[i], b[i], c[i]) : product + c[i]));
        CHECK(out[5 * lanes + i] == std::fmax(a[i], b[i]));
        CHECK(out[6 * lanes + i] == std::fmin(a[i], b[i]));
        sum += a[i];
        magnitude += std::fabs(a[i]);
        highest = std::fmax(highest, a[i]);
      }
      CHECK_NEAR(probe->sum_lanes(a.data()), sum, static_cast<double>(lanes) * oracle::kUnit * magnitude);
      CHECK(probe->max_lanes(a.data()) == highest);
    }
  }
}

}  // namespace
