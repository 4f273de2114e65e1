#include <array>

#include "check.h"
#include "guarded.h"
#include "oracle.h"
#include "tables.h"

namespace {

using guarded::Array;
using guarded::Matrix;
using lsif::Activation;
using lsif::kUnknownTime;

struct Shape {
  int64_t seq_len;
  int64_t dim;
  int64_t pooling_dim;
  int64_t num_interests;
  bool with_decay = true;
  int64_t gap = 0;
  double scale = 1;
};

struct Problem {
  Problem(const Shape& s, oracle::Random& random)
      : x(s.seq_len, s.dim, s.dim + s.gap),
        hidden(s.pooling_dim, s.dim),
        bias(1, s.pooling_dim),
        logits(s.num_interests, s.pooling_dim),
        decay(1, s.num_interests),
        packed_hidden(lsif::packed_linear_size(s.dim, s.pooling_dim)),
        packed_logits(lsif::packed_linear_size(s.pooling_dim, s.num_interests)),
        times(s.seq_len) {
    x.fill([&] { return random.normal(s.scale); });
    for (Matrix* matrix : {&hidden, &bias, &logits}) matrix->fill([&] { return random.normal(0.5); });
    decay.fill([&] { return static_cast<float>(0.1 * random.uniform()); });
    lsif::pack_linear(hidden.data(), s.dim, s.pooling_dim, packed_hidden.data());
    lsif::pack_linear(logits.data(), s.pooling_dim, s.num_interests, packed_logits.data());
    for (int64_t j = 0; j < s.seq_len; ++j) {
      times[j] = random.integer(0, 4) == 0 ? kUnknownTime : newest - random.integer(-100, 1000) * 8640;
    }
    params = {{packed_hidden.data(), bias.data(), s.dim, s.pooling_dim, Activation::kSilu},
              {packed_logits.data(), nullptr, s.pooling_dim, s.num_interests, Activation::kIdentity},
              s.with_decay ? decay.data() : nullptr};
  }
  int64_t newest = 1700000000;
  Matrix x, hidden, bias, logits, decay;
  Array<float> packed_hidden, packed_logits;
  Array<int64_t> times;
  lsif::InterestPoolingParams params;
};

// The logits of all interests for one event.
std::vector<oracle::Approx> event_logits(const Problem& p, const int64_t* times, int64_t newest, int64_t j,
                                         oracle::Sums sums) {
  const lsif::InterestPoolingParams& params = p.params;
  const auto hidden = oracle::linear(p.hidden.data(), p.bias.data(), params.hidden.in_dim, params.hidden.out_dim,
                                     Activation::kSilu, oracle::exact(p.x.row(j), params.hidden.in_dim), sums);
  auto logits = oracle::linear(p.logits.data(), nullptr, params.hidden.out_dim, params.logits.out_dim,
                               Activation::kIdentity, hidden, sums);
  for (int64_t a = 0; a < params.logits.out_dim; ++a) {
    if (params.decay == nullptr || times == nullptr) continue;
    const double decayed = params.decay[a] * oracle::age_in_days(newest, times[j]);
    logits[a].value -= decayed;
    logits[a].error += oracle::kUnit * (3 * decayed + std::fabs(logits[a].value));
  }
  return logits;
}

void check_problem(const lsif::cpu::KernelTable& table, const Problem& p, const int64_t* times, int64_t newest) {
  const lsif::InterestPoolingParams& params = p.params;
  const int64_t num_interests = params.logits.out_dim;
  const int64_t seq_len = p.x.rows();
  Matrix y(num_interests, params.hidden.in_dim);
  Array<float> scratch(lsif::interest_pooling_scratch_size(params));
  table.interest_pooling(params, p.x.data(), p.x.stride(), times, newest, seq_len, y.data(), scratch.data());
  CHECK(y.gaps_intact());
  CHECK(scratch.front_intact());
  std::vector<std::vector<oracle::Approx>> logits(static_cast<size_t>(num_interests));
  for (int64_t j = 0; j < seq_len; ++j) {
    const auto event = event_logits(p, times, newest, j, lsif::cpu::sums_of(table));
    for (int64_t a = 0; a < num_interests; ++a) {
      logits[a].push_back(event[a]);
      // Earlier sums are scaled down once per later chunk, with 5 roundings each.
      logits[a].back().error += 5 * oracle::kUnit * static_cast<double>(seq_len / lsif::kPoolingChunk + 1);
    }
  }
  for (int64_t a = 0; a < num_interests; ++a) {
    const auto weights = oracle::softmax(logits[a], static_cast<double>(seq_len));
    const auto expected = oracle::weighted_sum(weights, p.x.data(), p.x.stride(), params.hidden.in_dim);
    for (int64_t c = 0; c < params.hidden.in_dim; ++c) CHECK_NEAR(y.at(a, c), expected[c].value, expected[c].error);
  }
}

TEST(interest_pooling_keeps_the_contract_for_every_shape) {
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    oracle::Random random(9);
    for (int64_t seq_len : {0, 1, 2, 63, 64, 65, 128, 200}) {
      for (const auto& [dim, pooling_dim, num_interests] :
           {std::array<int64_t, 3>{1, 1, 1}, {8, 16, 4}, {17, 5, 3}, {64, 64, 7}}) {
        const Problem problem({seq_len, dim, pooling_dim, num_interests, seq_len % 2 == 0, seq_len % 3}, random);
        check_problem(*table, problem, problem.times.data(), problem.newest);
      }
    }
  }
}

TEST(interest_pooling_ages_events_only_where_both_times_are_known) {
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    oracle::Random random(10);
    Problem problem({100, 8, 8, 2}, random);
    check_problem(*table, problem, nullptr, problem.newest);
    check_problem(*table, problem, problem.times.data(), kUnknownTime);
    const int64_t ends[] = {INT64_MAX, INT64_MIN + 1, 0, -1, kUnknownTime};
    for (int64_t j = 0; j < 100; ++j) problem.times[j] = ends[j % 5];
    for (int64_t newest : ends) check_problem(*table, problem, problem.times.data(), newest);
    for (int64_t j = 0; j < 100; ++j) problem.times[j] = INT64_MIN + 1;  // the elapsed time saturates
    check_problem(*table, problem, problem.times.data(), INT64_MAX);
  }
}

// With weights of 0 a logit is exactly -decay * age: the error bound is small, so an error in the unit of age shows.
TEST(interest_pooling_counts_age_in_days) {
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    oracle::Random random(14);
    Problem problem({2, 3, 4, 2}, random);
    problem.logits.fill([] { return 0.0f; });
    lsif::pack_linear(problem.logits.data(), 4, 2, problem.packed_logits.data());
    problem.decay.fill([] { return 1.0f; });
    problem.times[0] = problem.newest - 86400;
    problem.times[1] = problem.newest;
    check_problem(*table, problem, problem.times.data(), problem.newest);
  }
}

// Whole chunks of events have weight 0: the first, the last but one, or all of them.
TEST(interest_pooling_survives_decay_beyond_float32) {
  constexpr int64_t kDay = 86400;
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    oracle::Random random(15);
    Problem problem({200, 5, 4, 3}, random);
    problem.decay.fill([] { return 1e38f; });
    for (int64_t j = 0; j < 200; ++j) problem.times[j] = problem.newest - (203 - j) * kDay;
    const auto pool = [&](int64_t expected) {
      Matrix y(3, 5);
      Array<float> scratch(lsif::interest_pooling_scratch_size(problem.params));
      table->interest_pooling(problem.params, problem.x.data(), problem.x.stride(), problem.times.data(),
                              problem.newest, 200, y.data(), scratch.data());
      for (int64_t a = 0; a < 3; ++a) {
        for (int64_t c = 0; c < 5; ++c) CHECK_NEAR(y.at(a, c), expected < 0 ? 0 : problem.x.at(expected, c), 0);
      }
    };
    pool(-1);
    for (const int64_t recent : {199, 70, 0}) {
      const int64_t old = problem.times[recent];
      problem.times[recent] = problem.newest;
      pool(recent);
      problem.times[recent] = old;
    }
  }
}

TEST(interest_pooling_survives_extreme_logits) {
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    oracle::Random random(11);
    for (double scale : {0.0, 1e-20, 1e2, 1e4}) {
      const Problem problem({150, 16, 16, 3, true, 0, scale}, random);
      check_problem(*table, problem, problem.times.data(), problem.newest);
    }
  }
}

}  // namespace
