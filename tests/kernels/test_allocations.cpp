// After its first request of a kind, a calling thread allocates nothing for similar ones: it uses the memory of
// engine/scratch.h. Allocations by the pool's threads are not counted, because it is random which of them help.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "check.h"
#include "engine/append.h"
#include "engine/recommend.h"
#include "engine/topk_batcher.h"
#include "random_model.h"
#include "score_topk_oracle.h"

namespace {

thread_local int64_t num_allocations = 0;

void* counted(std::size_t size, std::size_t alignment) {
  ++num_allocations;
  void* p = std::aligned_alloc(alignment, (size + alignment) / alignment * alignment);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

}  // namespace

// For the whole program, including the engine.
void* operator new(std::size_t size) { return counted(size, __STDCPP_DEFAULT_NEW_ALIGNMENT__); }
void* operator new[](std::size_t size) { return counted(size, __STDCPP_DEFAULT_NEW_ALIGNMENT__); }
void* operator new(std::size_t size, std::align_val_t align) { return counted(size, static_cast<std::size_t>(align)); }
void* operator new[](std::size_t size, std::align_val_t align) {
  return counted(size, static_cast<std::size_t>(align));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

namespace {

using namespace score_topk_test;  // NOLINT: for brevity in tests
using lsif::engine::Recommendations;
using lsif::engine::RecommendRequest;
using lsif::engine::TopkBatcher;
using request_test::Batch;
using request_test::hstu_config;
using request_test::ModelConfig;
using request_test::RandomModel;
using request_test::transformer_config;

constexpr int kCalls = 3;

// Counts this thread's allocations in calls after the first.
template <typename Body>
int64_t allocations(Body body) {
  body();
  const int64_t before = num_allocations;
  for (int call = 0; call < kCalls; ++call) body();
  return num_allocations - before;
}

TEST(allocations_are_counted) {
  CHECK(allocations([] { ::operator delete(::operator new(10)); }) == kCalls);
  CHECK(allocations([] { ::operator delete[](::operator new[](10, std::align_val_t(64)), std::align_val_t(64)); }) ==
        kCalls);
}

TEST(what_the_engine_allocates_is_counted) {
  Random random(1);
  const Catalog catalog(normals(random, 100 * 8), 8);
  const lsif::CatalogView view = catalog.view();
  Question question(normals(random, 8), 8, 1, 10);
  int64_t first = 0;
  std::thread([&] {  // a new thread, which has no memory of its own yet
    const ScoreTopkRequest& request = question.get();
    Result out = room_for(request);
    first = num_allocations;
    lsif::engine::score_topk(view, request, out.scores.data(), out.indices.data(), out.counts.data());
    first = num_allocations - first;
  })
      .join();
  CHECK(first > 0);
}

TEST(a_search_allocates_nothing) {
  constexpr int64_t kDim = 64;
  constexpr int64_t kRows = 34000;  // enough for two threads if each query scans all of them
  Random random(1);
  const std::vector<Catalog> catalogs = {
      Catalog(normals(random, kRows * kDim), kDim, make_bias(random, kRows, 0.5f)),
      Catalog(make_clustered(random, kRows, kDim), kDim).ordered(),
      Catalog(make_long_and_short(random, kRows, kDim), kDim).ordered(),
  };
  for (const Catalog& catalog : catalogs) {
    const lsif::CatalogView view = catalog.view();
    for (const int64_t interests : {1, 5}) {
      for (const int64_t users : {1, 20}) {
        for (const int64_t k : {1, 10, 300}) {
          Question question(normals(random, users * interests * kDim), kDim, interests, k);
          if (interests > 1) question.weigh(random);
          if (k == 10) question.exclude(random, 100);
          if (k == 300) question.allow(random, kRows);
          for (const int threads : {1, 2}) {
            question.request.threads = threads;
            const ScoreTopkRequest& request = question.get();
            Result out = room_for(request);
            CHECK(allocations([&] {
                    lsif::engine::score_topk(view, request, out.scores.data(), out.indices.data(), out.counts.data());
                  }) == 0);
            CHECK(out.counts[0] == k);
          }
        }
      }
    }
  }
}

// A model, a catalogue and three users, one without events; and memory for ten recommendations each.
struct Shop {
  explicit Shop(const ModelConfig& config) : model(config), catalog(catalog_of(config)) {
    oracle::Random random(2);
    std::vector<request_test::History> histories;
    for (const int64_t seq_len : {60, 0, 7}) {
      histories.push_back(request_test::random_history(random, seq_len));
      std::fill(histories.back().times.begin(), histories.back().times.end(), lsif::kUnknownTime);  // states want order
    }
    batch = std::make_unique<Batch>(histories);
    request.events = batch->events();
    request.k = kK;
    request.threads = 1;
  }

  static Catalog catalog_of(const ModelConfig& config) {
    Random random(3);
    return Catalog(normals(random, config.num_items * config.dim), config.dim);
  }

  Recommendations out() { return {scores.data(), indices.data(), counts.data(), long_share.data()}; }

  void recommend(const lsif::engine::Scoring& scoring) {
    lsif::engine::recommend(*model.model, catalog.view(), scoring, request, out());
  }

  static constexpr int64_t kUsers = 3, kK = 10;
  RandomModel model;
  Catalog catalog;
  std::unique_ptr<Batch> batch;
  RecommendRequest request{};
  std::array<float, kUsers * kK> scores;
  std::array<int64_t, kUsers * kK> indices;
  std::array<int64_t, kUsers> counts;
  std::array<float, kUsers> long_share;
};

std::vector<ModelConfig> configs() {
  ModelConfig repeats = hstu_config();
  repeats.repeats = true;
  return {hstu_config(), transformer_config(), repeats};
}

TEST(a_request_allocates_nothing) {
  const std::array<int64_t, 4> items = {1, 2, 3, 4};
  const std::array<int64_t, 4> offsets = {0, 2, 2, 4};
  for (const ModelConfig& config : configs()) {
    Shop shop(config);
    for (const bool exclude_seen : {false, true}) {
      for (const bool exclude_more : {false, true}) {
        for (const int threads : {1, 2}) {
          shop.request.exclude_seen = exclude_seen;
          shop.request.exclude_items = exclude_more ? items.data() : nullptr;
          shop.request.exclude_offsets = exclude_more ? offsets.data() : nullptr;
          shop.request.threads = threads;
          CHECK(allocations([&] { shop.recommend({false, 1.0}); }) == 0);
          CHECK(allocations([&] { shop.recommend({true, 0.5}); }) == 0);
          CHECK(shop.counts[0] == Shop::kK);
        }
      }
    }
  }
}

TEST(a_request_for_kept_states_allocates_nothing) {
  for (const ModelConfig& config : configs()) {
    Shop shop(config);
    const int64_t size = lsif::engine::user_state_size(config, 20);
    std::vector<int64_t> memory(Shop::kUsers * size / 8);
    std::vector<lsif::engine::UserState> states;
    std::vector<lsif::engine::ConstUserState> views;
    for (int64_t b = 0; b < Shop::kUsers; ++b) {
      auto* data = reinterpret_cast<std::byte*>(memory.data()) + b * size;
      lsif::engine::start_state(config, {}, 20, data);
      states.emplace_back(config, 20, data);
      views.emplace_back(config, 20, data);
    }
    CHECK(allocations([&] { lsif::engine::append(*shop.model.model, states, shop.batch->events(), 1); }) == 0);
    CHECK(allocations([&] {
            lsif::engine::Scratch scratch;
            shop.request.events = lsif::engine::seen_events(config, views, nullptr, scratch);
            lsif::engine::recommend_states(*shop.model.model, shop.catalog.view(), {false, 1.0}, views, shop.request,
                                           shop.out());
          }) == 0);
    CHECK(shop.counts[0] == Shop::kK);
  }
}

TEST(batched_requests_allocate_nothing) {
  Shop shop(hstu_config());
  TopkBatcher batcher({});
  shop.request.batcher = &batcher;
  CHECK(allocations([&] { shop.recommend({false, 1.0}); }) == 0);

  constexpr int64_t kDim = 8;
  constexpr int kCallers = 4;
  constexpr int kMostCalls = 20000;
  Random random(4);
  const Catalog catalog(normals(random, 50000 * kDim), kDim);
  const lsif::CatalogView view = catalog.view();  // shared, because a batch has one catalogue
  std::array<int64_t, kCallers> allocated{};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&, caller] {
      Random own(caller);
      const auto ask = [&](Question& question) {
        const ScoreTopkRequest& request = question.get();
        Result out = room_for(request);
        const int64_t before = num_allocations;
        batcher.score_topk(view, request, TopkBatcher::Clock::time_point::max(), out.scores.data(), out.indices.data(),
                           out.counts.data());
        return num_allocations - before;
      };
      Question largest(normals(own, 8 * kCallers * kDim), kDim, 1, 20);  // no batch needs more memory
      run(catalog, largest, lsif::cpu::kernels());  // not through the batcher, where another thread might search
      Question question(normals(own, 2 * kDim), kDim, 1, 10 + caller);
      for (int call = 0; call < 50 || (call < kMostCalls && batcher.stats().largest_batch == 1); ++call) {
        allocated[caller] += ask(question);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(batcher.stats().largest_batch > 1);
  for (const int64_t count : allocated) CHECK(count == 0);
}

}  // namespace
