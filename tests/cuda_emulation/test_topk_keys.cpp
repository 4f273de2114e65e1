// The pieces of score_topk.cu: keys, and the smallest of many.
#include <algorithm>
#include <cmath>
#include <set>

#include "check.h"
#include "kernels/cuda/topk_keys.cuh"
#include "score_topk_data.h"

namespace {

using lsif::cuda::kNoRow;
using score_topk_test::Random;

__global__ void select_kernel(uint64_t* keys, int64_t n, int64_t k, uint64_t* last) {
  const uint64_t found = lsif::cuda::kth_smallest({keys, n}, k);
  if (threadIdx.x == 0) *last = found;
}

__global__ void sort_kernel(uint64_t* keys, int64_t n) { lsif::cuda::sort_keys(keys, n); }

__global__ void rank_kernel(const uint64_t* keys, int64_t n, uint64_t* sorted) {
  lsif::cuda::rank_keys({keys, n}, [&](unsigned rank, uint64_t key) { sorted[rank] = key; });
}

TEST(ranks_of_keys) {
  Random random(4);
  for (const int64_t n : {0, 1, 63, 300, 511, 512}) {
    for (const int threads : {96, 1024}) {
      std::set<uint64_t> drawn;
      while (static_cast<int64_t>(drawn.size()) < n) drawn.insert(random() >> 1);
      std::vector<uint64_t> keys(drawn.begin(), drawn.end());
      const std::vector<uint64_t> sorted = keys;
      std::shuffle(keys.begin(), keys.end(), random);
      std::vector<uint64_t> found(keys.size());
      CHECK(lsif::cuda::launch(rank_kernel, 1, threads, nullptr, keys.data(), n, found.data()) == cudaSuccess);
      CHECK(found == sorted);
    }
  }
}

TEST(the_kth_smallest_key_and_the_order_of_keys) {
  Random random(3);
  for (const int64_t n : {1, 2, 31, 64, 65, 256, 1000, 5000}) {
    for (const int kind : {0, 1, 2}) {  // all digits, the last ones, a third of them none
      std::set<uint64_t> drawn;
      while (static_cast<int64_t>(drawn.size()) < n) drawn.insert(kind == 1 ? random() % (2 * n) : random() >> 1);
      std::vector<uint64_t> keys(drawn.begin(), drawn.end());
      for (size_t i = keys.size() * 2 / 3; kind == 2 && i < keys.size(); ++i) keys[i] = kNoRow;
      std::vector<uint64_t> sorted = keys;
      std::shuffle(keys.begin(), keys.end(), random);
      for (const int64_t k : {int64_t{1}, (n + 1) / 2, n}) {
        uint64_t last = 0;
        CHECK(lsif::cuda::launch(select_kernel, 1, 96, nullptr, keys.data(), n, k, &last) == cudaSuccess);
        const auto count = std::count_if(keys.begin(), keys.end(), [&](uint64_t key) { return key <= last; });
        CHECK(sorted[k - 1] == kNoRow ? last == kNoRow : count == k);
      }
      while ((keys.size() & (keys.size() - 1)) != 0) keys.push_back(kNoRow), sorted.push_back(kNoRow);
      guarded::Array<uint64_t> array(static_cast<int64_t>(keys.size()));
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

}  // namespace
