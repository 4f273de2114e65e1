#include <limits>

#include "check.h"
#include "guarded.h"
#include "oracle.h"
#include "tables.h"

namespace {

using guarded::Array;
using guarded::Matrix;
using lsif::AttentionKind;
using lsif::kUnknownTime;

struct Mode {
  AttentionKind kind;
  bool bf16;
};

enum class Times { kNone, kNull, kSorted, kUnsorted, kUnknown, kExtreme };

struct Shape {
  int64_t seq_len;
  int64_t window;
  int64_t num_heads;
  int64_t head_dim;
  Times times = Times::kSorted;
  int64_t gap = 0;
  double scale = 1;
  int64_t num_boundaries = 12;
  bool shared_keys = false;
};

int64_t draw_time(Times times, int64_t i, oracle::Random& random) {
  constexpr int64_t kStart = 1700000000;
  switch (times) {
    case Times::kUnsorted:
      return kStart + random.integer(-5000, 5000);
    case Times::kUnknown:
      return random.integer(0, 2) == 0 ? kUnknownTime : kStart + i * 100;
    case Times::kExtreme: {
      const int64_t ends[] = {INT64_MAX, INT64_MIN + 1, 0, -1, kUnknownTime, INT64_MAX - 1};
      return ends[random.integer(0, 5)];
    }
    default:
      return kStart + i * 100 + random.integer(0, 99);
  }
}

// A problem with its memory: all of the kernel's inputs end at an unreadable page.
struct Problem {
  Problem(Mode mode, const Shape& shape, oracle::Random& random)
      : dim(shape.num_heads * shape.head_dim),
        q(shape.seq_len, dim, dim + shape.gap),
        k(shape.seq_len, shape.shared_keys ? shape.head_dim : dim, dim + 2 * shape.gap),
        v(shape.seq_len, shape.shared_keys ? shape.head_dim : dim, dim + 2 * shape.gap),
        position_bias(shape.num_heads, shape.window),
        time_bias(shape.num_heads, shape.num_boundaries + 2),
        boundaries(shape.num_boundaries),
        times(shape.seq_len),
        query_times(shape.seq_len) {
    for (Matrix* matrix : {&q, &k, &v}) matrix->fill([&] { return random.normal(shape.scale); });
    for (Matrix* matrix : {&position_bias, &time_bias}) matrix->fill([&] { return random.normal(); });
    for (int64_t b = 0; b < shape.num_boundaries; ++b) boundaries[b] = (int64_t{1} << b) + b;
    if (shape.num_boundaries > 2) boundaries[shape.num_boundaries - 1] = INT64_MAX;
    for (int64_t i = 0; i < shape.seq_len; ++i) times[i] = draw_time(shape.times, i, random);
    for (int64_t i = 0; i < shape.seq_len; ++i) {
      query_times[i] = i + 1 < shape.seq_len ? times[i + 1] : draw_time(shape.times, i + 1, random);
    }
    const bool timed = shape.times != Times::kNone;
    params = {mode.kind,         shape.num_heads,      shape.head_dim,
              shape.window,      position_bias.data(), timed ? time_bias.data() : nullptr,
              boundaries.data(), shape.num_boundaries, shape.shared_keys,
              mode.bf16};
    const bool known = shape.times != Times::kNull;
    input = {q.data(),
             k.data(),
             v.data(),
             q.stride(),
             k.stride(),
             known ? times.data() : nullptr,
             known ? query_times.data() : nullptr,
             shape.seq_len};
  }
  int64_t dim;
  Matrix q, k, v, position_bias, time_bias;
  Array<int64_t> boundaries, times, query_times;
  lsif::AttentionParams params;
  lsif::AttentionInput input;
};

// Calls the kernel with scratch that is full of NaN and ends at an unreadable page.
void run(const lsif::cpu::KernelTable& table, const lsif::AttentionParams& params, const lsif::AttentionInput& input,
         int64_t first_query, Matrix& y) {
  Array<float> scratch(lsif::attention_scratch_size(params, input.seq_len));
  table.attention(params, input, first_query, y.data(), y.stride(), scratch.data());
  CHECK(scratch.front_intact());
  CHECK(y.gaps_intact());
}

void check_problem(const lsif::cpu::KernelTable& table, Mode mode, const Shape& shape, oracle::Random& random) {
  const Problem problem(mode, shape, random);
  Matrix y(shape.seq_len, problem.dim, problem.dim + 2 * shape.gap);
  run(table, problem.params, problem.input, 0, y);
  for (int64_t i = 0; i < shape.seq_len; ++i) {
    for (int64_t h = 0; h < shape.num_heads; ++h) {
      const auto expected = oracle::attention(problem.params, problem.input, h, i);
      for (int64_t c = 0; c < shape.head_dim; ++c) {
        CHECK_NEAR(y.at(i, h * shape.head_dim + c), expected[c].value, expected[c].error);
      }
    }
  }
}

constexpr Mode kModes[] = {{AttentionKind::kSoftmax, false},
                           {AttentionKind::kSilu, false},
                           {AttentionKind::kSoftmax, true},
                           {AttentionKind::kSilu, true}};

template <typename Body>
void for_tables_and_modes(Body body) {
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    for (const Mode mode : kModes) {
      if (mode.bf16 && !lsif::cpu::has_bf16(*table)) continue;
      oracle::Random random(8);
      body(*table, mode, random);
    }
  }
}

TEST(attention_keeps_the_contract_for_every_head_shape) {
  for_tables_and_modes([](const auto& table, Mode mode, oracle::Random& random) {
    for (int64_t head_dim : {1, 3, 8, 16, 17, 32, 64}) {
      for (int64_t num_heads : {1, 2, 3})
        check_problem(table, mode, {23, 9, num_heads, head_dim, Times::kSorted, 5}, random);
    }
  });
}

TEST(attention_shares_keys_between_heads) {
  for_tables_and_modes([](const auto& table, Mode mode, oracle::Random& random) {
    for (int64_t head_dim : {1, 5, 16, 35}) {
      for (int64_t num_heads : {1, 2, 4})
        check_problem(table, mode, {37, 20, num_heads, head_dim, Times::kSorted, 3, 1, 12, true}, random);
    }
  });
}

TEST(attention_keeps_the_contract_for_every_window_and_length) {
  for_tables_and_modes([](const auto& table, Mode mode, oracle::Random& random) {
    for (int64_t window : {1, 2, 3, 7, 16, 50}) {
      for (int64_t seq_len : {int64_t{0}, int64_t{1}, int64_t{2}, window - 1, window, window + 1, 3 * window + 5}) {
        check_problem(table, mode, {seq_len, window, 2, 5, Times::kSorted, seq_len % 3}, random);
      }
    }
    check_problem(table, mode, {500, 50, 2, 8}, random);
    check_problem(table, mode, {40, 1000, 1, 4}, random);
    check_problem(table, mode, {lsif::kAttentionTile + 1, 2, 1, 4}, random);
    check_problem(table, mode, {2 * lsif::kAttentionTile, 200, 1, 4}, random);
  });
}

TEST(attention_buckets_all_kinds_of_times) {
  for_tables_and_modes([](const auto& table, Mode mode, oracle::Random& random) {
    for (Times times :
         {Times::kNone, Times::kNull, Times::kSorted, Times::kUnsorted, Times::kUnknown, Times::kExtreme}) {
      for (int64_t num_boundaries : {1, 2, 12, 60}) {
        check_problem(table, mode, {45, 20, 2, 4, times, 0, 1, num_boundaries}, random);
      }
      check_problem(table, mode, {150, 100, 1, 4, times}, random);  // more keys than one chunk of the bucket search
    }
  });
}

TEST(attention_survives_extreme_logits) {
  for_tables_and_modes([](const auto& table, Mode mode, oracle::Random& random) {
    for (double scale : {0.0, 1e-20, 30.0, 60.0, 1e4}) {  // logits up to about 1e4 at 60, 1e9 at 1e4
      check_problem(table, mode, {60, 20, 2, 32, Times::kSorted, 0, scale}, random);
    }
  });
}

// The dot products lower the bias, the lowest finite number, to -inf in all even rows and only there.
TEST(attention_on_cuda_is_zero_where_all_logits_are_minus_infinity) {
  for_tables_and_modes([](const auto& table, Mode mode, oracle::Random& random) {
    if (mode.kind != AttentionKind::kSoftmax || !lsif::cpu::is_cuda(table)) return;
    Problem problem(mode, {150, 140, 2, 8, Times::kNone}, random);
    problem.k.fill([] { return -1e16f; });
    problem.position_bias.fill([] { return std::numeric_limits<float>::lowest(); });
    for (int64_t i = 0; i < 150; ++i) std::fill_n(problem.q.row(i), problem.dim, i % 2 == 0 ? 1e16f : -1e16f);
    Matrix y(150, problem.dim);
    run(table, problem.params, problem.input, 0, y);
    for (int64_t i = 0; i < 150; ++i) {
      for (int64_t c = 0; c < problem.dim; ++c) CHECK(i % 2 == 0 ? y.at(i, c) == 0.0f : std::fabs(y.at(i, c)) < 5.0f);
    }
  });
}

TEST(attention_from_a_later_query_gives_the_same_rows) {
  for_tables_and_modes([](const auto& table, Mode mode, oracle::Random& random) {
    for (int64_t window : {1, 7, 50}) {
      const Problem problem(mode, {170, window, 2, 12, Times::kUnsorted, 3}, random);
      Matrix all(170, problem.dim);
      run(table, problem.params, problem.input, 0, all);
      for (int64_t first : {1, 5, 63, 127, 128, 130, 168, 169, 170}) {
        Matrix some(170 - first, problem.dim, problem.dim + 1);
        lsif::AttentionInput later = problem.input;
        later.q = problem.q.row(first);
        run(table, problem.params, later, first, some);
        for (int64_t i = first; i < 170; ++i) CHECK(guarded::same_bits(some, i - first, all, i));
      }
    }
  });
}

TEST(attention_of_a_suffix_gives_the_same_rows_where_the_window_lies_inside) {
  for_tables_and_modes([](const auto& table, Mode mode, oracle::Random& random) {
    if (mode.bf16 && lsif::cpu::is_cuda(table)) return;  // its tiles begin at the start of the sequence
    for (int64_t window : {1, 7, 50}) {
      const Problem problem(mode, {140, window, 2, 12, Times::kUnknown}, random);
      Matrix all(140, problem.dim);
      run(table, problem.params, problem.input, 0, all);
      for (int64_t start : {1, 2, 3, 64, 83, 90}) {
        lsif::AttentionInput suffix = problem.input;
        suffix.q = problem.q.row(start);
        suffix.k = problem.k.row(start);
        suffix.v = problem.v.row(start);
        suffix.times += start;
        suffix.query_times += start;
        suffix.seq_len -= start;
        Matrix some(suffix.seq_len, problem.dim);
        run(table, problem.params, suffix, 0, some);
        for (int64_t i = start + window - 1; i < 140; ++i) CHECK(guarded::same_bits(some, i - start, all, i));
      }
    }
  });
}

TEST(attention_ignores_what_lies_outside_the_window) {
  for_tables_and_modes([](const auto& table, Mode mode, oracle::Random& random) {
    Problem problem(mode, {60, 9, 2, 8}, random);
    Matrix before(60, problem.dim);
    run(table, problem.params, problem.input, 0, before);
    for (Matrix* matrix : {&problem.q, &problem.k, &problem.v}) {
      for (int64_t c = 0; c < problem.dim; ++c) matrix->at(30, c) = 1e30f;  // any finite number
    }
    Matrix after(60, problem.dim);
    run(table, problem.params, problem.input, 0, after);
    for (int64_t i = 0; i < 60; ++i) {
      const bool sees_it = 30 <= i && i < 39;
      CHECK(guarded::same_bits(after, i, before, i) == !sees_it);
    }
  });
}

TEST(attention_in_bfloat16_is_off_by_what_rounding_the_weights_costs) {
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    if (!lsif::cpu::has_bf16(*table)) continue;
    for (const AttentionKind kind : {AttentionKind::kSoftmax, AttentionKind::kSilu}) {
      oracle::Random random(9);
      const Problem problem({kind, true}, {60, 20, 2, 8}, random);
      Matrix y(60, problem.dim);
      run(*table, problem.params, problem.input, 0, y);
      double worst = 0;  // relative to the contract's other errors
      for (int64_t i = 0; i < 60; ++i) {
        const auto expected = oracle::attention(problem.params, problem.input, 1, i, 0);
        for (int64_t c = 0; c < 8; ++c)
          worst = std::fmax(worst, std::fabs(y.at(i, 8 + c) - expected[c].value) / expected[c].error);
      }
      CHECK(worst > 10);
    }
  }
}

}  // namespace
