#include "engine/repeats.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "engine/scratch.h"
#include "engine/thread_pool.h"
#include "kernels/elapsed.h"

namespace lsif::engine {
namespace {

constexpr double kMaxLogit = 30.0;
constexpr int64_t kSecondsPerHour = 3600;

// The logit a_j of an event followed by `events_after` others, at time `then`; times are unknown if the model uses
// none.
double event_logit(const RepeatParams& p, int64_t events_after, int64_t asked, int64_t then) {
  // bit_width(n) is ceil(log2(n + 1)).
  const int64_t width = std::bit_width(static_cast<uint64_t>(events_after));
  const double logit = static_cast<double>(p.distance[std::min(width, kNumDistances - 1)]);
  if (p.age == nullptr) return logit;
  int64_t bucket = 0;
  int64_t phase = 0;
  if (asked != kUnknownTime && then != kUnknownTime) {
    const int64_t seconds = elapsed(then, asked);
    bucket = 1 + (std::upper_bound(p.boundaries, p.boundaries + p.num_boundaries, seconds) - p.boundaries);
    phase = 1 + seconds / kSecondsPerHour % kHoursPerWeek;
  }
  return logit + static_cast<double>(p.age[bucket]) + static_cast<double>(p.phase[phase]);
}

double gate_of(const RepeatParams& p, const float* newest, int64_t dim) {
  double sum = static_cast<double>(*p.gate_bias);
  for (int64_t i = 0; i < dim; ++i) sum += static_cast<double>(p.gate[i]) * static_cast<double>(newest[i]);
  return sum;
}

// Writes the distinct items of user b's history and their bonuses, and returns how many there are.
int64_t user_bonuses(const Model& model, const EventBatch& events, int64_t b, const float* newest, int64_t* rows,
                     float* values) {
  const ModelConfig& c = model.config();
  const RepeatParams& p = model.repeats();
  const int64_t begin = events.offsets[b];
  const int64_t seq_len = events.offsets[b + 1] - begin;
  if (seq_len == 0) return 0;
  const int64_t* items = events.items + begin;
  const int64_t* times = events.times != nullptr ? events.times + begin : nullptr;
  int64_t asked = times != nullptr ? times[seq_len - 1] : kUnknownTime;
  if (c.request_time && events.now != nullptr && events.now[b] != kUnknownTime) asked = events.now[b];

  const double gate = gate_of(p, newest, c.dim);
  Scratch scratch;
  int64_t* order = scratch.ints(seq_len);
  std::iota(order, order + seq_len, 0);
  std::sort(order, order + seq_len,
            [&](int64_t i, int64_t j) { return items[i] < items[j] || (items[i] == items[j] && i < j); });
  int64_t count = 0;
  for (int64_t i = 0; i < seq_len; ++count) {
    const int64_t item = items[order[i]];
    double total = 0;
    for (; i < seq_len && items[order[i]] == item; ++i) {
      const int64_t then = times != nullptr ? times[order[i]] : kUnknownTime;
      total += std::exp(std::min(event_logit(p, seq_len - 1 - order[i], asked, then) + gate, kMaxLogit));
    }
    rows[count] = item;
    values[count] = static_cast<float>(std::log1p(total));
  }
  return count;
}

}  // namespace

RepeatBonuses repeat_bonuses(const Model& model, const EventBatch& events, const float* newest, int64_t stride,
                             int threads, Scratch& scratch) {
  const RepeatBonuses out = {scratch.ints(events.total), scratch.floats(events.total), scratch.ints(events.batch + 1),
                             events.batch};
  out.offsets[0] = 0;
  parallel_for(events.batch, threads, [&](int64_t b) {
    const int64_t begin = events.offsets[b];
    out.offsets[b + 1] = user_bonuses(model, events, b, newest + b * stride, out.rows + begin, out.values + begin);
  });
  // Each user's entries start where the user's events did: close the gaps.
  for (int64_t b = 0; b < events.batch; ++b) {
    const int64_t count = out.offsets[b + 1];
    const int64_t from = events.offsets[b];
    const int64_t to = out.offsets[b];
    if (to < from) {
      std::copy_n(out.rows + from, count, out.rows + to);
      std::copy_n(out.values + from, count, out.values + to);
    }
    out.offsets[b + 1] = to + count;
  }
  return out;
}

}  // namespace lsif::engine
