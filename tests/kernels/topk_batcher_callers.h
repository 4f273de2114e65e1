// Questions and helpers for the tests of TopkBatcher.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

#include "engine/topk_batcher.h"
#include "score_topk_oracle.h"

namespace topk_batcher_test {

using namespace score_topk_test;  // NOLINT: for brevity in tests
using lsif::engine::Closed;
using lsif::engine::DeadlineExceeded;
using lsif::engine::Overloaded;
using lsif::engine::TopkBatcher;

constexpr int64_t kDim = 16;
constexpr int64_t kItems = 3000;
constexpr auto kNever = TopkBatcher::Clock::time_point::max();

inline Catalog random_catalog(uint64_t seed) {
  Random random(seed);
  return Catalog(normals(random, kItems * kDim), kDim, make_bias(random, kItems, 0.5f));
}

inline Question random_question(uint64_t seed) {
  Random random(seed);
  const auto users = static_cast<int64_t>(1 + seed % 3);
  Question question(normals(random, users * kDim), kDim, 1, static_cast<int64_t>(seed % 2 == 0 ? 10 : 1 + seed % 40));
  if (seed % 5 == 0) question.exclude(random, kItems);
  question.request.threads = 1;
  return question;
}

// For a catalogue of kItems. With three users, the first may get all rows, the second none, the third a few.
inline Question filtered_question(uint64_t seed) {
  Question question = random_question(seed);
  Random random(seed);
  question.allow(random, kItems);
  return question;
}

inline Result ask(TopkBatcher& batcher, const CatalogView& view, Question& question,
                  TopkBatcher::Clock::time_point deadline = kNever) {
  const ScoreTopkRequest& request = question.get();
  Result result = room_for(request);
  batcher.score_topk(view, request, deadline, result.scores.data(), result.indices.data(), result.counts.data());
  return result;
}

// A catalogue whose search takes a while, so that other requests arrive meanwhile.
struct Busy {
  Busy() : catalog(make()), view(catalog.view()) {}

  static Catalog make() {
    Random random(3);
    return Catalog(std::vector<float>(400000 * kDim, 1.0f), kDim);  // all rows are equal, so none can be dropped
  }

  // Keeps the batcher busy in another thread until `body` has run.
  template <typename Body>
  void while_busy(TopkBatcher& batcher, Body body) {
    std::atomic<bool> stop{false};
    std::atomic<int> searches{0};
    std::thread other([&] {
      Question question = random_question(2);
      while (!stop) {
        try {
          ask(batcher, view, question);
          ++searches;
        } catch (const Closed&) {
          return;
        }
      }
    });
    while (searches == 0) std::this_thread::yield();
    body();
    stop = true;
    other.join();
  }

  const Catalog catalog;
  const CatalogView view;
};

template <typename Error, typename Body>
bool throws(Body body) {
  try {
    body();
  } catch (const Error&) {
    return true;
  }
  return false;
}

}  // namespace topk_batcher_test
