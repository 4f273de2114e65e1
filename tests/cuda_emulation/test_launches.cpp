// What launchers do beyond the CPU kernels: batches of sequences, packing, and score_topk's own machinery (its bounds
// are tested by tests/kernels/test_score_topk*.cpp).
#include <set>

#include "guarded.h"
#include "kernels/cuda/topk_bounds.cuh"
#include "kernels/cuda/topk_keys.cuh"
#include "oracle.h"
#include "score_topk_oracle.h"

namespace {

using namespace score_topk_test;  // NOLINT: what these tests are written in
using guarded::Array;
using guarded::Matrix;
using lsif::cuda::kNoRow;

TEST(pack_linear_gives_the_cpu_layout) {
  oracle::Random random(1);
  for (const int64_t in_dim : {1, 3, 64}) {
    for (const int64_t out_dim : {1, 16, 17, 100}) {
      Matrix weight(out_dim, in_dim);
      weight.fill([&] { return random.normal(); });
      Array<float> expected(lsif::packed_linear_size(in_dim, out_dim)), packed(expected.size());
      lsif::pack_linear(weight.data(), in_dim, out_dim, expected.data());
      emulated::take_next_order();
      CHECK(lsif::cuda::pack_linear(weight.data(), in_dim, out_dim, packed.data(), nullptr) == cudaSuccess);
      CHECK(std::equal(expected.data(), expected.data() + expected.size(), packed.data()));
    }
  }
}

// A batch gives each sequence what it gets alone, bit for bit.
TEST(a_batch_of_sequences_is_its_sequences) {
  oracle::Random random(2);
  const std::vector<int64_t> offsets = {0, 0, 1, 40, 40, 190, 191};
  const auto batch = static_cast<int64_t>(offsets.size()) - 1;
  const int64_t total = offsets.back();
  constexpr int64_t kHeads = 2, kDim = 10, kInterests = 3;
  Matrix q(total, kDim), k(total, kDim), v(total, kDim), position(kHeads, 30), time(kHeads, 5), y(total, kDim);
  for (Matrix* matrix : {&q, &k, &v, &position, &time}) matrix->fill([&] { return random.normal(); });
  const std::vector<int64_t> boundaries = {1, 60, 3600};
  std::vector<int64_t> times;
  for (int64_t i = 0; i < total; ++i) times.push_back(random.integer(0, 9) == 0 ? lsif::kUnknownTime : i * 50);
  const lsif::AttentionParams params = {
      lsif::AttentionKind::kSoftmax, kHeads, kDim / kHeads, 30, position.data(), time.data(), boundaries.data(), 3};
  const lsif::AttentionInput input = {q.data(), k.data(), v.data(), kDim, kDim, times.data(), times.data(), total};
  CHECK(lsif::cuda::attention(params, input, offsets.data(), batch, y.data(), kDim, nullptr) == cudaSuccess);

  Matrix hidden(7, kDim), logits(kInterests, 7), decay(1, kInterests), pooled(batch * kInterests, kDim);
  for (Matrix* matrix : {&hidden, &logits}) matrix->fill([&] { return random.normal(); });
  decay.fill([&] { return static_cast<float>(random.uniform()); });
  Array<float> packed_hidden(lsif::packed_linear_size(kDim, 7)), packed_logits(lsif::packed_linear_size(7, kInterests));
  lsif::pack_linear(hidden.data(), kDim, 7, packed_hidden.data());
  lsif::pack_linear(logits.data(), 7, kInterests, packed_logits.data());
  const lsif::InterestPoolingParams pooling = {
      {packed_hidden.data(), nullptr, kDim, 7, lsif::Activation::kSilu},
      {packed_logits.data(), nullptr, 7, kInterests, lsif::Activation::kIdentity},
      decay.data()};
  Array<float> scratch(lsif::cuda::interest_pooling_scratch_size(pooling, total));
  CHECK(lsif::cuda::interest_pooling(pooling, q.data(), kDim, times.data(), nullptr, offsets.data(), batch, total,
                                     pooled.data(), scratch.data(), nullptr) == cudaSuccess);
  const lsif::cpu::KernelTable& alone = lsif::cpu::cuda_emulated_kernels();
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t first = offsets[b];
    const int64_t length = offsets[b + 1] - first;
    lsif::AttentionInput one = input;
    one.q += first * kDim, one.k += first * kDim, one.v += first * kDim;
    one.times += first, one.query_times += first, one.seq_len = length;
    Matrix rows(length, kDim), interests(kInterests, kDim);
    alone.attention(params, one, 0, rows.data(), kDim, nullptr);
    for (int64_t i = 0; i < length; ++i) CHECK(guarded::same_bits(rows, i, y, first + i));
    const int64_t newest = length == 0 ? lsif::kUnknownTime : times[offsets[b + 1] - 1];
    alone.interest_pooling(pooling, q.row(first), kDim, times.data() + first, newest, length, interests.data(),
                           nullptr);
    for (int64_t a = 0; a < kInterests; ++a) CHECK(guarded::same_bits(interests, a, pooled, b * kInterests + a));
  }
}

__global__ void select_kernel(uint64_t* keys, int64_t n, int64_t k, uint64_t* last) {
  const uint64_t found = lsif::cuda::kth_smallest(keys, n, k);
  if (threadIdx.x == 0) *last = found;
}

__global__ void sort_kernel(uint64_t* keys, int64_t n) { lsif::cuda::sort_keys(keys, n); }

TEST(the_kth_smallest_key_and_the_order_of_keys) {
  Random random(3);
  for (const int64_t n : {1, 2, 31, 256, 1000, 5000}) {
    for (const int kind : {0, 1, 2}) {  // all digits, the last ones, a third of them none
      std::set<uint64_t> drawn;
      while (static_cast<int64_t>(drawn.size()) < n) drawn.insert(kind == 1 ? random() % (2 * n) : random() >> 1);
      std::vector<uint64_t> keys(drawn.begin(), drawn.end());
      for (size_t i = keys.size() * 2 / 3; kind == 2 && i < keys.size(); ++i) keys[i] = kNoRow;
      std::vector<uint64_t> sorted = keys;
      std::shuffle(keys.begin(), keys.end(), random);
      for (const int64_t k : {int64_t{1}, (n + 1) / 2, n}) {
        uint64_t last = 0;
        emulated::take_next_order();
        CHECK(lsif::cuda::launch(select_kernel, 1, 96, nullptr, keys.data(), n, k, &last) == cudaSuccess);
        const auto count = std::count_if(keys.begin(), keys.end(), [&](uint64_t key) { return key <= last; });
        CHECK(sorted[k - 1] == kNoRow ? last == kNoRow : count == k);
      }
      while ((keys.size() & (keys.size() - 1)) != 0) keys.push_back(kNoRow), sorted.push_back(kNoRow);
      Array<uint64_t> array(static_cast<int64_t>(keys.size()));
      std::copy(keys.begin(), keys.end(), array.data());
      CHECK(lsif::cuda::launch(sort_kernel, 1, 64, nullptr, array.data(), array.size()) == cudaSuccess);
      CHECK(std::equal(sorted.begin(), sorted.end(), array.data()));
    }
  }
}

TEST(keys_order_scores_then_rows) {
  const float scores[] = {HUGE_VALF, 3e38f, 1.0f, 1e-45f, 0.0f, -1e-45f, -1.0f, -3e38f, -HUGE_VALF};
  uint64_t before = 0;
  for (const float score : scores) {
    for (const int64_t item : {int64_t{0}, int64_t{1}, int64_t{UINT32_MAX} - 1}) {
      const uint64_t key = lsif::cuda::key_of(score, item);
      CHECK(before < key && key < kNoRow);
      CHECK(lsif::cuda::score_of(key) == score && lsif::cuda::item_of(key) == item);
      before = key;
    }
  }
  CHECK(lsif::cuda::key_of(-0.0f, 5) == lsif::cuda::key_of(0.0f, 5));
}

// How many rows of each query waited for being scored exactly: QueryBound is what the workspace ends with.
std::vector<unsigned> run_and_count(const Catalog& catalog, Question& question, Result& result) {
  std::vector<unsigned char> workspace;
  const ScoreTopkRequest& request = question.get();
  result = room_for(request);
  run_on_cuda(catalog.view(), request, result.scores.data(), result.indices.data(), result.counts.data(), &workspace);
  const auto size = static_cast<size_t>(request.batch) * sizeof(lsif::cuda::QueryBound);
  std::vector<unsigned> counts;
  for (int64_t user = 0; user < request.batch; ++user) {
    lsif::cuda::QueryBound bound;
    std::memcpy(&bound, workspace.data() + workspace.size() - (size + 15) / 16 * 16 + user * sizeof(bound),
                sizeof(bound));
    counts.push_back(bound.count);
  }
  return counts;
}

TEST(few_rows_are_scored_exactly) {
  Random random(4);
  const Catalog catalog(make_clustered(random, 100000, 16), 16, make_bias(random, 100000, 0.1f));
  for (const int64_t k : {1, 10, 300}) {
    for (const bool is_filtered : {false, true}) {
      Question question(make_clustered(random, 3, 16), 16, 1, k);
      if (is_filtered) {  // the best rows of all
        Result best;
        run_and_count(catalog, question, best);
        question.exclude_items.assign(best.indices.begin(), best.indices.end());
        question.exclude_offsets = {0, k, 2 * k, 3 * k};
      }
      Result result;
      for (const unsigned count : run_and_count(catalog, question, result)) {
        CHECK(count >= k);
        CHECK(count < 2000 + 20 * k);
      }
      CHECK(result == brute_force(catalog, question));
    }
  }
}

TEST(more_rows_than_can_wait) {
  Random random(5);
  // All rows equal, and rows whose codes say nothing: beside each other sizes that are 10^30 times the others.
  std::vector<float> rows;
  for (int64_t i = 0; i < 40000; ++i) rows.push_back((i % 16 == 0 ? -1e30f : 1.0f) * std::fabs(normal(random)));
  for (const Catalog& catalog : {Catalog(std::vector<float>(40000, 0.5f), 1), Catalog(rows, 1)}) {
    for (const int64_t k : {1, 300, 3000}) {
      Question question({1.0f, 2.0f}, 1, 1, k);
      Result result;
      for (const unsigned count : run_and_count(catalog, question, result)) CHECK(count > 20000);
      question.exclude(random, 20000);
      check_against_brute_force(catalog, question, "more rows than can wait");
    }
  }
}

TEST(every_number_of_queries) {
  Random random(6);
  for (const int64_t dim : {5, 32, 70}) {
    const Catalog catalog(normals(random, 1500 * dim), dim, make_bias(random, 1500, 0.5f));
    for (const int64_t batch : {1, 7, 8, 9, 31, 32, 33, 70}) {
      Question question(normals(random, batch * dim), dim, 1, 10);
      check_against_brute_force(catalog, question, "batch");
    }
    for (const int64_t num_interests : {1, 7, 8, 9, 40, 256}) {
      Question question(normals(random, 2 * num_interests * dim), dim, num_interests, 10);
      question.weigh(random);
      question.weights[num_interests / 2] = num_interests == 1 ? 1.0f : 0.0f;
      Result result;
      run_and_count(catalog, question, result);
      Result expected = room_for(question.request);
      lsif::engine::score_topk(catalog.view(), question.request, expected.scores.data(), expected.indices.data(),
                               expected.counts.data());
      CHECK(result == expected);
    }
  }
}

}  // namespace
