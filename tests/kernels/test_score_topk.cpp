// score_topk against two oracles: brute force over lsif::exact_score must give the same bits, and exact_score must be
// within rounding of the formula in long double.
#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "engine/catalog.h"
#include "engine/score_topk.h"
#include "tables.h"

namespace {

using lsif::CatalogView;
using lsif::code_stride;
using lsif::ScoredItem;
using lsif::cpu::KernelTable;
using lsif::engine::ScoreTopkRequest;

using Random = std::mt19937_64;

float normal(Random& random) { return std::normal_distribution<float>()(random); }

std::vector<float> normals(Random& random, int64_t size) {
  std::vector<float> x(static_cast<size_t>(size));
  for (float& value : x) value = normal(random);
  return x;
}

// ---- Data -----------------------------------------------------------------------------------------------------------

struct Catalog {
  int64_t num_items = 0;
  int64_t dim = 1;
  std::vector<float> vectors;  // the rows begin at element 1: not aligned to anything but a float
  std::vector<float> bias;     // empty: none
  std::vector<int8_t> codes;
  std::vector<float> scales;
  std::vector<float> errors;
  std::vector<float> norms;

  Catalog(std::vector<float> rows, int64_t dim_, std::vector<float> bias_ = {})
      : num_items(static_cast<int64_t>(rows.size()) / dim_), dim(dim_), bias(std::move(bias_)) {
    vectors.assign(1, 0.0f);
    vectors.insert(vectors.end(), rows.begin(), rows.end());
    codes.resize(num_items * code_stride(dim));
    scales.resize(num_items);
    errors.resize(num_items);
    norms.resize(num_items);
    lsif::engine::quantize_rows(vectors.data() + 1, num_items, dim, codes.data(), scales.data(), errors.data(),
                                norms.data(), 2);
  }

  CatalogView view() const {
    return {vectors.data() + 1, bias.empty() ? nullptr : bias.data(),
            codes.data(),       scales.data(),
            errors.data(),      norms.data(),
            num_items,          dim};
  }
};

// Fills num_rows rows of dim numbers.
using Maker = std::function<std::vector<float>(Random&, int64_t num_rows, int64_t dim)>;

Maker scaled(float factor) {
  return [factor](Random& random, int64_t num_rows, int64_t dim) {
    std::vector<float> x = normals(random, num_rows * dim);
    for (float& value : x) value *= factor;
    return x;
  };
}

std::vector<float> make_clustered(Random& random, int64_t num_rows, int64_t dim) {
  const std::vector<float> centres = normals(random, 256 * dim);
  std::vector<float> x;
  for (int64_t row = 0; row < num_rows; ++row) {
    const int64_t centre = static_cast<int64_t>(random() % 256);
    const float norm = std::exp(normal(random));
    for (int64_t i = 0; i < dim; ++i) x.push_back(norm * (centres[centre * dim + i] + 0.3f * normal(random)));
  }
  return x;
}

std::vector<float> make_heavy_tailed(Random& random, int64_t num_rows, int64_t dim) {
  std::student_t_distribution<float> student(1.5f);
  std::vector<float> x(num_rows * dim);
  for (float& value : x) value = student(random);
  return x;
}

std::vector<float> make_duplicates(Random& random, int64_t num_rows, int64_t dim) {
  const std::vector<float> distinct = normals(random, 7 * dim);
  std::vector<float> x;
  for (int64_t row = 0; row < num_rows; ++row) {
    const auto first = distinct.begin() + static_cast<int64_t>(random() % 7) * dim;
    x.insert(x.end(), first, first + dim);
  }
  return x;
}

Maker constant(float value) {
  return [value](Random&, int64_t num_rows, int64_t dim) { return std::vector<float>(num_rows * dim, value); };
}

// Rows of very different sizes beside each other.
std::vector<float> make_mixed(Random& random, int64_t num_rows, int64_t dim) {
  const float sizes[] = {1e20f, 1e-20f, 1.0f, 0.0f, 1e-42f, 1e10f, 1e-5f};
  std::vector<float> x;
  for (int64_t row = 0; row < num_rows; ++row) {
    const float size = sizes[random() % 7];
    for (int64_t i = 0; i < dim; ++i) x.push_back(size * normal(random));
  }
  return x;
}

// Rows that are their own codes: no quantisation error, so that the bounds have nothing but their slack.
std::vector<float> make_integers(Random& random, int64_t num_rows, int64_t dim) {
  std::vector<float> x;
  for (int64_t row = 0; row < num_rows; ++row) {
    x.push_back(random() % 2 == 0 ? 127.0f : -127.0f);
    for (int64_t i = 1; i < dim; ++i) x.push_back(static_cast<float>(static_cast<int64_t>(random() % 255) - 127));
  }
  return x;
}

struct Kind {
  const char* name;
  Maker items;
  Maker queries;
  float bias;  // its size
};

std::vector<Kind> kinds() {
  return {
      {"gaussian", scaled(1), scaled(1), 1.0f},
      {"clustered", make_clustered, make_clustered, 1.0f},
      {"heavy tailed", make_heavy_tailed, make_heavy_tailed, 10.0f},
      {"duplicates", make_duplicates, scaled(1), 0.0f},
      {"constant", constant(0.7f), scaled(1), 0.0f},
      {"constant and bias", constant(0.7f), scaled(1), 1e-3f},
      {"integers", make_integers, make_integers, 1e4f},
      {"zero", constant(0.0f), scaled(1), 1.0f},
      {"zero queries", scaled(1), constant(0.0f), 1.0f},
      {"huge items", scaled(1e20f), scaled(1), 1e20f},
      {"huge products", scaled(1e20f), scaled(1e15f), 1e35f},
      {"huge times tiny", scaled(1e20f), scaled(1e-20f), 1.0f},
      {"tiny", scaled(1e-20f), scaled(1), 1e-20f},
      {"tiny times tiny", scaled(1e-20f), scaled(1e-20f), 1e-40f},
      {"denormal", scaled(1e-40f), scaled(1), 1e-40f},
      {"huge bias", scaled(1), scaled(1), 1e30f},
      {"huge bias, tiny items", scaled(1e-20f), scaled(1e-20f), 1e38f},
      {"mixed", make_mixed, scaled(1), 1.0f},
      {"mixed, huge queries", make_mixed, scaled(1e15f), 1.0f},
      {"mixed, tiny queries", make_mixed, scaled(1e-20f), 1e-10f},
  };
}

struct Question {
  ScoreTopkRequest request;
  std::vector<float> queries;
  std::vector<float> weights;
  std::vector<int64_t> exclude_items;
  std::vector<int64_t> exclude_offsets;

  Question(std::vector<float> queries_, int64_t dim, int64_t num_interests, int64_t k) : queries(std::move(queries_)) {
    request.num_interests = num_interests;
    request.batch = static_cast<int64_t>(queries.size()) / (dim * num_interests);
    request.k = k;
    request.threads = 1;
  }

  // Pointers are taken late, so that a Question can be copied and changed.
  const ScoreTopkRequest& get() {
    request.queries = queries.data();
    request.weights = weights.empty() ? nullptr : weights.data();
    request.exclude_items = exclude_offsets.empty() ? nullptr : exclude_items.data();
    request.exclude_offsets = exclude_offsets.empty() ? nullptr : exclude_offsets.data();
    return request;
  }

  // User 0 excludes nothing, 1 everything, 2 some rows unsorted with repeats, and so on.
  void exclude(Random& random, int64_t num_items) {
    exclude_offsets = {0};
    for (int64_t user = 0; user < request.batch; ++user) {
      const int64_t count = user % 3 == 0 ? 0 : user % 3 == 1 ? num_items : (num_items + 1) / 2;
      for (int64_t i = 0; i < count; ++i) {
        exclude_items.push_back(user % 3 == 1 ? num_items - 1 - i : static_cast<int64_t>(random() % num_items));
      }
      exclude_offsets.push_back(static_cast<int64_t>(exclude_items.size()));
    }
  }

  bool excludes(int64_t user, int64_t item) const {
    if (exclude_offsets.empty()) return false;
    return std::find(exclude_items.begin() + exclude_offsets[user], exclude_items.begin() + exclude_offsets[user + 1],
                     item) != exclude_items.begin() + exclude_offsets[user + 1];
  }

  void weigh(Random& random) {
    for (int64_t i = 0; i < request.batch * request.num_interests; ++i) {
      weights.push_back(std::exp(2 * normal(random)));
    }
  }
};

// ---- Oracles --------------------------------------------------------------------------------------------------------

struct Result {
  std::vector<float> scores;
  std::vector<int64_t> indices;
  std::vector<int64_t> counts;
  bool operator==(const Result&) const = default;
};

Result run(const Catalog& catalog, Question& question, const KernelTable& table) {
  const ScoreTopkRequest& request = question.get();
  Result result;
  result.scores.assign(request.batch * request.k, -7.0f);
  result.indices.assign(request.batch * request.k, -7);
  result.counts.assign(request.batch, -7);
  lsif::engine::score_topk(catalog.view(), request, result.scores.data(), result.indices.data(), result.counts.data(),
                           table);
  return result;
}

struct Oracle {
  long double score;
  long double tolerance;  // of exact_score, before its rounding to float32
};

Oracle formula(const Catalog& catalog, const Question& question, int64_t user, int64_t item) {
  const ScoreTopkRequest& request = question.request;
  const float* x = catalog.view().vectors + item * catalog.dim;
  std::vector<long double> dots;
  long double size = 0;
  for (int64_t j = 0; j < request.num_interests; ++j) {
    const float* q = question.queries.data() + (user * request.num_interests + j) * catalog.dim;
    long double dot = 0;
    long double of_dot = 0;
    for (int64_t i = 0; i < catalog.dim; ++i) {
      dot += static_cast<long double>(q[i]) * x[i];
      of_dot += std::fabs(static_cast<long double>(q[i]) * x[i]);
    }
    dots.push_back(dot);
    size = std::max(size, of_dot);
  }
  const long double b = catalog.bias.empty() ? 0 : catalog.bias[item];
  long double score = dots[0];
  if (!question.weights.empty()) {
    const long double largest = *std::max_element(dots.begin(), dots.end());
    long double sum = 0;
    for (int64_t j = 0; j < request.num_interests; ++j) {
      const long double weight = question.weights[user * request.num_interests + j];
      sum += weight * std::exp((dots[j] - largest) / request.temperature);
    }
    score = largest + request.temperature * std::log(sum);
    size += request.temperature * (std::fabs(std::log(sum)) + request.num_interests);
  }
  return {score + b, (size + std::fabs(b)) * static_cast<long double>(catalog.dim + 40) * 0x1p-53L};
}

double shared_score(const Catalog& catalog, const Question& question, int64_t user, int64_t item) {
  const int64_t num_interests = question.request.num_interests;
  const CatalogView view = catalog.view();
  return lsif::exact_score(question.queries.data() + user * num_interests * catalog.dim,
                           question.weights.empty() ? nullptr : question.weights.data() + user * num_interests,
                           num_interests, question.request.temperature, view.vectors + item * catalog.dim,
                           view.bias == nullptr ? 0.0f : view.bias[item], catalog.dim);
}

// Brute force; every score is held against the formula on the way.
Result brute_force(const Catalog& catalog, const Question& question) {
  const ScoreTopkRequest& request = question.request;
  Result result;
  result.scores.assign(request.batch * request.k, 0.0f);
  result.indices.assign(request.batch * request.k, -1);
  for (int64_t user = 0; user < request.batch; ++user) {
    std::vector<bool> excluded(catalog.num_items, false);
    if (!question.exclude_offsets.empty()) {
      for (int64_t i = question.exclude_offsets[user]; i < question.exclude_offsets[user + 1]; ++i) {
        excluded[question.exclude_items[i]] = true;
      }
    }
    std::vector<ScoredItem> all;
    for (int64_t item = 0; item < catalog.num_items; ++item) {
      if (excluded[item]) continue;
      const double score = shared_score(catalog, question, user, item);
      all.push_back({static_cast<float>(score), item});
      const Oracle oracle = formula(catalog, question, user, item);
      CHECK(std::fabs(static_cast<long double>(score) - oracle.score) <= oracle.tolerance);
    }
    std::stable_sort(all.begin(), all.end(),
                     [](const ScoredItem& a, const ScoredItem& b) { return a.score > b.score; });
    const int64_t count = std::min<int64_t>(request.k, static_cast<int64_t>(all.size()));
    result.counts.push_back(count);
    for (int64_t i = 0; i < count; ++i) {
      result.scores[user * request.k + i] = all[i].score;
      result.indices[user * request.k + i] = all[i].item;
    }
  }
  return result;
}

void check_against_brute_force(const Catalog& catalog, Question& question, const std::string& what) {
  const Result expected = brute_force(catalog, question);
  for (const KernelTable* table : lsif::cpu::tested_kernels()) {
    if (run(catalog, question, *table) == expected) {
      CHECK(true);
    } else {
      check::fail(what.c_str(), 0,
                  std::string(table->isa) + " differs from brute force: " + std::to_string(catalog.num_items) + " x " +
                      std::to_string(catalog.dim) + ", k " + std::to_string(question.request.k));
    }
  }
}

std::vector<float> make_bias(Random& random, int64_t num_items, float size) {
  std::vector<float> bias = normals(random, num_items);
  for (float& b : bias) b = std::clamp(b, -2.0f, 2.0f) * size;
  return bias;
}

constexpr int64_t kDims[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 200, 512};
constexpr int64_t kCounts[] = {1, 2, 10, 100, 1000};

// ---- Tests ----------------------------------------------------------------------------------------------------------

TEST(every_kind_in_every_dimension) {
  Random random(1);
  const int64_t sizes[] = {1024, 5000, 1023, 300, 1025, 31};
  int turn = 0;
  for (const Kind& kind : kinds()) {
    for (const int64_t dim : kDims) {
      const int64_t num_items = dim > 128 ? 600 : sizes[turn % 6];
      const bool has_bias = turn % 2 == 0 && kind.bias > 0;
      const Catalog catalog(kind.items(random, num_items, dim), dim,
                            has_bias ? make_bias(random, num_items, kind.bias) : std::vector<float>());
      Question question(kind.queries(random, 3, dim), dim, 1, kCounts[turn % 5]);
      if (turn % 3 == 0) question.exclude(random, num_items);
      check_against_brute_force(catalog, question, kind.name);
      ++turn;
    }
  }
}

TEST(every_size_with_every_k) {
  Random random(2);
  for (const int64_t k : kCounts) {
    for (const int64_t num_items :
         {int64_t{0}, int64_t{1}, int64_t{2}, k - 1, k, k + 1, int64_t{1023}, int64_t{1024}, int64_t{1025}}) {
      for (const bool duplicates : {false, true}) {
        const Catalog catalog(duplicates ? make_duplicates(random, num_items, 17) : normals(random, num_items * 17), 17,
                              make_bias(random, num_items, duplicates ? 0.0f : 1.0f));
        Question question(normals(random, 5 * 17), 17, 1, k);
        check_against_brute_force(catalog, question, "sizes");
        if (num_items == 0) continue;
        question.exclude(random, num_items);
        check_against_brute_force(catalog, question, "sizes, excluded");
      }
    }
  }
}

TEST(several_interests) {
  Random random(3);
  int turn = 0;
  for (const Kind& kind : kinds()) {
    for (int64_t num_interests = 1; num_interests <= 8; ++num_interests) {
      const int64_t dim = kDims[turn % 15];
      const int64_t num_items = turn % 4 == 0 ? 1025 : 200;
      const bool has_bias = turn % 2 == 0 && kind.bias > 0;
      const Catalog catalog(kind.items(random, num_items, dim), dim,
                            has_bias ? make_bias(random, num_items, kind.bias) : std::vector<float>());
      Question question(kind.queries(random, 3 * num_interests, dim), dim, num_interests, kCounts[turn % 3]);
      question.weigh(random);
      const double temperatures[] = {1.0, 0.05, 1e-6, 30.0, 1e-30, 1e6};
      question.request.temperature = temperatures[turn % 6];
      if (turn % 3 == 0) question.exclude(random, num_items);
      check_against_brute_force(catalog, question, kind.name);
      ++turn;
    }
  }
}

TEST(an_interest_of_weight_zero_takes_no_part) {
  Random random(4);
  const Catalog catalog(normals(random, 500 * 16), 16);
  Question two(normals(random, 2 * 16), 16, 2, 10);
  two.weights = {1.0f, 0.0f};
  Question one(std::vector<float>(two.queries.begin(), two.queries.begin() + 16), 16, 1, 10);
  for (const KernelTable* table : lsif::cpu::tested_kernels()) {
    const Result expected = run(catalog, one, *table);
    CHECK(run(catalog, two, *table) == expected);
  }
}

TEST(batch_and_threads_do_not_matter) {
  Random random(5);
  constexpr int64_t kDim = 24;
  constexpr int64_t kBatch = 150;
  const Catalog catalog(make_clustered(random, 40000, kDim), kDim, make_bias(random, 40000, 0.1f));
  for (const int64_t num_interests : {1, 3}) {
    Question all(make_clustered(random, kBatch * num_interests, kDim), kDim, num_interests, 20);
    if (num_interests > 1) all.weigh(random);
    const KernelTable& table = lsif::cpu::kernels();
    const Result expected = run(catalog, all, table);
    for (const int threads : {0, 2, 3, 7}) {
      all.request.threads = threads;
      CHECK(run(catalog, all, table) == expected);
    }
    for (const int64_t user : {0, 1, 77, 149}) {
      const auto first = all.queries.begin() + user * num_interests * kDim;
      Question one(std::vector<float>(first, first + num_interests * kDim), kDim, num_interests, 20);
      if (num_interests > 1) {
        const auto weight = all.weights.begin() + user * num_interests;
        one.weights.assign(weight, weight + num_interests);
      }
      for (const int threads : {1, 4}) {
        one.request.threads = threads;
        const Result result = run(catalog, one, table);
        CHECK(std::equal(result.indices.begin(), result.indices.end(), expected.indices.begin() + user * 20));
        CHECK(std::equal(result.scores.begin(), result.scores.end(), expected.scores.begin() + user * 20));
      }
    }
  }
}

TEST(many_dimensions) {
  Random random(12);
  for (const int64_t dim : {1500, 65536}) {
    const int64_t num_items = dim > 10000 ? 40 : 300;
    for (const Maker& make : {Maker(make_integers), scaled(1), constant(-127.0f)}) {
      const Catalog catalog(make(random, num_items, dim), dim, make_bias(random, num_items, 1.0f));
      Question question(make(random, 5, dim), dim, 1, 7);
      check_against_brute_force(catalog, question, "many dimensions");
    }
  }
}

TEST(two_hundred_thousand_rows) {
  Random random(6);
  constexpr int64_t kItems = 200000;
  const Catalog catalog(normals(random, kItems * 16), 16, make_bias(random, kItems, 0.5f));
  for (const int threads : {1, 2}) {
    Question question(normals(random, 2 * 16), 16, 1, 1000);
    question.request.threads = threads;
    check_against_brute_force(catalog, question, "many rows");
  }
}

TEST(score_items_is_score_topk_of_all_rows) {
  Random random(7);
  constexpr int64_t kItems = 300;
  const Catalog catalog(normals(random, kItems * 20), 20, make_bias(random, kItems, 1.0f));
  Question question(normals(random, 3 * 2 * 20), 20, 2, kItems);
  question.weigh(random);
  const Result all = run(catalog, question, lsif::cpu::kernels());
  const std::vector<int64_t> offsets = {0, kItems, 2 * kItems, 3 * kItems};
  for (const int threads : {1, 3}) {
    std::vector<float> scores(3 * kItems, -7.0f);
    lsif::engine::score_items(catalog.view(), question.get(), all.indices.data(), offsets.data(), scores.data(),
                              threads);
    CHECK(scores == all.scores);
  }
  const std::vector<int64_t> some = {4, 4, 0};
  const std::vector<int64_t> ragged = {0, 0, 1, 3};
  std::vector<float> scores(3);
  lsif::engine::score_items(catalog.view(), question.get(), some.data(), ragged.data(), scores.data(), 1);
  CHECK(scores[0] == static_cast<float>(shared_score(catalog, question, 1, 4)));
  CHECK(scores[1] == static_cast<float>(shared_score(catalog, question, 2, 4)));
  CHECK(scores[2] == static_cast<float>(shared_score(catalog, question, 2, 0)));
}

TEST(codes_stay_within_their_bounds) {
  Random random(8);
  for (const Kind& kind : kinds()) {
    const Catalog catalog(kind.items(random, 50, 33), 33);
    for (int64_t row = 0; row < catalog.num_items; ++row) {
      long double error = 0;
      long double norm = 0;
      const int8_t* codes = catalog.codes.data() + row * code_stride(33);
      for (int64_t i = 0; i < code_stride(33); ++i) {
        const long double coded = static_cast<long double>(catalog.scales[row]) * codes[i];
        const long double x = i < 33 ? catalog.view().vectors[row * 33 + i] : 0.0f;
        error += (x - coded) * (x - coded);
        norm += coded * coded;
        CHECK(codes[i] >= -127);
      }
      CHECK(std::sqrt(error) <= catalog.errors[row]);
      CHECK(std::sqrt(norm) <= catalog.norms[row]);
      // And are no looser than they need be.
      CHECK(catalog.errors[row] <= std::sqrt(error) * 1.00001L + std::numeric_limits<float>::min());
      CHECK(catalog.norms[row] <= std::sqrt(norm) * 1.00001L + std::numeric_limits<float>::min());
    }
  }
}

TEST(rows_whose_norm_is_beyond_float32) {
  Random random(9);
  std::vector<float> rows = normals(random, 700 * 40);
  for (int64_t i = 0; i < 40; ++i) rows[350 * 40 + i] = (i % 2 == 0 ? 3e38f : -3e38f);
  const Catalog catalog(rows, 40);
  CHECK(std::isinf(catalog.norms[350]));
  std::vector<float> queries = normals(random, 2 * 40);
  for (float& q : queries) q *= 1e-3f;
  Question question(queries, 40, 1, 10);
  check_against_brute_force(catalog, question, "huge row");
  // A query whose norm is beyond float32 against rows small enough for its scores.
  std::vector<float> small = normals(random, 700 * 40);
  for (float& x : small) x *= 1e-3f;
  Question huge(std::vector<float>(40, 3e38f), 40, 1, 10);
  check_against_brute_force(Catalog(small, 40), huge, "huge query");
  Question several(normals(random, 2 * 3 * 40), 40, 3, 10);
  for (float& q : several.queries) q *= 1e-3f;
  several.weigh(random);
  check_against_brute_force(catalog, several, "huge row, several interests");
}

TEST(check_finite_finds_the_first_bad_row) {
  std::vector<float> x(3000 * 300, 1.0f);
  CHECK(lsif::engine::check_finite(x.data(), 3000, 300, 2) == -1);
  x[2999 * 300 + 299] = std::nanf("");
  CHECK(lsif::engine::check_finite(x.data(), 3000, 300, 2) == 2999);
  x[1700 * 300] = -HUGE_VALF;
  CHECK(lsif::engine::check_finite(x.data(), 3000, 300, 2) == 1700);
  CHECK(lsif::engine::check_finite(x.data(), 0, 300, 2) == -1);
}

TEST(bad_arguments_are_refused) {
  Random random(10);
  const KernelTable& table = lsif::cpu::kernels();
  const Catalog catalog(normals(random, 50 * 8), 8);
  const Question good(normals(random, 2 * 2 * 8), 8, 2, 5);
  const auto with = [&](auto change) {
    Question question = good;
    question.weights = {0.5f, 0.5f, 0.5f, 0.5f};
    change(question);
    run(catalog, question, table);
  };
  with([](Question&) {});
  CHECK_THROWS(with([](Question& q) { q.request.k = 0; }), "k: expected at least 1, got 0");
  CHECK_THROWS(with([](Question& q) { q.request.threads = -1; }), "threads: expected");
  CHECK_THROWS(with([](Question& q) { q.queries[8] = std::nanf(""); }), "user 0, interest 1");
  CHECK_THROWS(with([](Question& q) { q.queries[31] = HUGE_VALF; }), "user 1, interest 1");
  CHECK_THROWS(with([](Question& q) { q.weights[3] = -1; }), "weights: expected finite numbers >= 0");
  CHECK_THROWS(with([](Question& q) { q.weights[3] = std::nanf(""); }), "user 1, interest 1");
  CHECK_THROWS(with([](Question& q) { q.weights[2] = q.weights[3] = 0; }), "none in user 1");
  CHECK_THROWS(with([](Question& q) { q.weights.clear(); }), "weights: expected one per interest");
  CHECK_THROWS(Catalog(std::vector<float>(lsif::kMaxScoreDim + 1), lsif::kMaxScoreDim + 1), "dimensions, got 65537");
  CHECK_THROWS(with([](Question& q) { q.request.temperature = 0; }), "temperature: expected");
  CHECK_THROWS(with([](Question& q) { q.request.temperature = std::nan(""); }), "temperature: expected");
  CHECK_THROWS(with([](Question& q) {
                 q.exclude_items = {3, 50};
                 q.exclude_offsets = {0, 1, 2};
               }),
               "exclude_items: expected rows in [0, 50), got 50 for user 1");
  CHECK_THROWS(with([](Question& q) {
                 q.exclude_items = {-1};
                 q.exclude_offsets = {0, 1, 1};
               }),
               "got -1 for user 0");
  CHECK_THROWS(with([](Question& q) {
                 q.exclude_items = {1, 2};
                 q.exclude_offsets = {0, 2, 1};
               }),
               "exclude_offsets: expected numbers that do not decrease");
}

TEST(scores_beyond_float32_are_refused) {
  Random random(11);
  std::vector<float> rows = normals(random, 2000 * 8);
  for (float& x : rows) x *= 1e20f;
  std::vector<float> queries(8, 1e20f);
  const Catalog catalog(rows, 8);
  for (const KernelTable* table : lsif::cpu::tested_kernels()) {
    Question question(queries, 8, 1, 5);
    CHECK_THROWS(run(catalog, question, *table), "scores within float32");
  }
  // Rows far below the k best may overflow: they are not returned.
  std::vector<float> some = normals(random, 2000 * 8);
  for (int64_t row = 0; row < 2000; row += 2) {
    for (int64_t i = 0; i < 8; ++i) some[row * 8 + i] = -1e20f * std::fabs(some[row * 8 + i]);
  }
  Question question(queries, 8, 1, 500);
  check_against_brute_force(Catalog(some, 8), question, "overflow below");
}

}  // namespace
