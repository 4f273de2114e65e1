// select_largest: the largest bounds come to the front, no row is lost, and no order takes excessively long.
#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "check.h"
#include "guarded.h"
#include "simd_probes.h"

namespace {

using lsif::cpu::BoundedRow;
using lsif::cpu::probes;
using lsif::cpu::SimdProbe;
using Bounds = std::vector<float>;

struct Kind {
  std::string name;
  std::function<Bounds(int64_t size)> make;
};

Bounds random_bounds(int64_t size) {
  std::mt19937 random(static_cast<uint32_t>(size));
  Bounds bounds(size);
  for (float& bound : bounds) bound = std::normal_distribution<float>()(random);
  return bounds;
}

// Bounds with few distinct values, so that any boundary lies among equal ones.
Bounds few_values(int64_t size) {
  Bounds bounds = random_bounds(size);
  for (float& bound : bounds) bound = std::floor(bound);
  return bounds;
}

Bounds with_infinities(int64_t size) {
  Bounds bounds = random_bounds(size);
  for (int64_t i = 0; i < size; i += 3) bounds[i] = i % 2 == 0 ? HUGE_VALF : -HUGE_VALF;
  return bounds;
}

Bounds sorted(int64_t size, bool falling) {
  Bounds bounds(size);
  for (int64_t i = 0; i < size; ++i) bounds[i] = static_cast<float>(falling ? -i : i);
  return bounds;
}

Bounds organ_pipe(int64_t size, float sign) {
  Bounds bounds(size);
  for (int64_t i = 0; i < size; ++i) bounds[i] = sign * static_cast<float>(std::min(i, size - 1 - i));
  return bounds;
}

std::vector<Kind> kinds() {
  return {
      {"random", random_bounds},
      {"few values", few_values},
      {"infinities", with_infinities},
      {"equal", [](int64_t size) { return Bounds(size, 1.5f); }},
      {"zeros of both signs",
       [](int64_t size) {
         Bounds bounds(size, 0.0f);
         for (int64_t i = 0; i < size; i += 2) bounds[i] = -0.0f;
         return bounds;
       }},
      {"rising", [](int64_t size) { return sorted(size, false); }},
      {"falling", [](int64_t size) { return sorted(size, true); }},
      {"organ pipe", [](int64_t size) { return organ_pipe(size, 1.0f); }},
      {"organ pipe, upside down", [](int64_t size) { return organ_pipe(size, -1.0f); }},
      {"one apart",
       [](int64_t size) {
         Bounds bounds(size, 1.0f);
         if (size > 0) bounds[size / 2] = 2.0f;
         return bounds;
       }},
  };
}

bool is_larger(float a, float b) { return a > b; }

void check_selected(const SimdProbe& probe, const Kind& kind, int64_t size, int64_t count) {
  const Bounds bounds = kind.make(size);
  guarded::Array<BoundedRow> rows(size);
  for (int64_t i = 0; i < size; ++i) rows[i] = {bounds[i], static_cast<uint32_t>(i)};
  probe.select_largest(rows.data(), size, count);
  Bounds front;
  std::set<uint32_t> seen;
  bool is_right = rows.front_intact();
  for (int64_t i = 0; i < size; ++i) {
    is_right &= rows[i].row < size && seen.insert(rows[i].row).second && rows[i].upper == bounds[rows[i].row];
    if (i < count) front.push_back(rows[i].upper);
  }
  Bounds expected = bounds;
  std::sort(expected.begin(), expected.end(), is_larger);
  expected.resize(std::min(count, size));
  std::sort(front.begin(), front.end(), is_larger);
  CHECK_MESSAGE(is_right && front == expected, kind.name + ", " + probe.isa + ": not the largest " +
                                                   std::to_string(count) + " of " + std::to_string(size));
}

TEST(the_largest_come_first) {
  for (const SimdProbe* probe : probes()) {
    for (const Kind& kind : kinds()) {
      for (const int64_t size : {0, 1, 2, 31, 32, 33, 64, 65, 100, 1000}) {
        std::set<int64_t> counts = {0, 1, 2, size / 2, size - 1, size, size + 1};
        counts.insert({31, 32, 33, 34, 63, 64, 65});  // around the limits of the heap and of comparison blocks
        for (const int64_t count : counts) {
          if (count >= 0 && count <= size + 1) check_selected(*probe, kind, size, count);
        }
      }
    }
  }
}

TEST(many_rows_in_any_order) {
  for (const SimdProbe* probe : probes()) {
    for (const Kind& kind : kinds()) check_selected(*probe, kind, 200000, 70000);
  }
}

// Bounds whose pivot, the median of three, is each time the second largest (after McIlroy, "A killer adversary for
// quicksort"): simulates the selection and chooses values when it reads them.
Bounds killer(int64_t size, int rounds) {
  Bounds bounds(size, -1.0f);
  std::vector<int64_t> places(size);
  std::iota(places.begin(), places.end(), 0);
  auto next = static_cast<float>(size);
  for (auto first = places.begin(); rounds-- > 0;) {
    const int64_t left = places.end() - first;
    Bounds three;
    for (const int64_t i : {int64_t{0}, left / 2, left - 1}) {
      if (bounds[first[i]] < 0) bounds[first[i]] = next--;
      three.push_back(bounds[first[i]]);
    }
    std::sort(three.begin(), three.end());
    for (auto place = first; place != places.end(); ++place) {
      if (bounds[*place] > three[1]) std::swap(*place, *first++);
    }
  }
  return bounds;
}

TEST(a_heap_ends_what_bad_pivots_began) {
  const Kind kind = {"killer", [](int64_t size) { return killer(size, 100); }};
  for (const SimdProbe* probe : probes()) {
    for (const int64_t size : {1000, 5000}) check_selected(*probe, kind, size, size / 2);
  }
}

}  // namespace
