#include "engine/row_order.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>

#include "engine/cell_coder.h"
#include "engine/clusters.h"
#include "engine/thread_pool.h"
#include "kernels/exact_dot.h"
#include "kernels/types.h"

namespace lsif::engine {
namespace {

constexpr int64_t kLeastRows = 4096;  // a scan of fewer takes negligible time
constexpr int64_t kMostRows = std::numeric_limits<int32_t>::max();
constexpr int64_t kMostClusters = 1024;
constexpr int64_t kSampleRowsPerCluster = 64;
constexpr int64_t kSampleValues = 1 << 24;

// A trial search: rows of a sample look for the best other row, in cells of this many rows.
constexpr int64_t kTrialQueries = 64;
constexpr int64_t kTrialCellRows = 16;
// The largest share of cells worth scanning by cluster. Each is visited separately, so beyond this a scan of all rows
// is no slower.
constexpr double kMostNeeded = 0.4;
constexpr double kMostNeededByLength = 0.95;  // the share by length: those rows are scanned sequentially anyway
// Users' vectors are 18 to 27 times longer than items' in trained models, which makes biases matter less
// (bench/measured.md, "Trained models").
constexpr double kTrialLength = 16;
// Between length and bias: if long rows have lower biases (rare items of a trained model), they do not score best.
constexpr double kLeastCorrelation = -0.1;

// `size` row numbers, evenly spaced.
std::vector<int32_t> sample_rows(int64_t num_items, int64_t size) {
  std::vector<int32_t> rows(size);
  for (int64_t i = 0; i < size; ++i) rows[i] = static_cast<int32_t>(i * num_items / size);
  return rows;
}

// Squared lengths of the rows.
std::vector<double> lengths_of(const SlotRows& all, int threads) {
  std::vector<double> lengths(all.num_items);
  constexpr int64_t kStep = 4096;
  parallel_for(divide_up(all.num_items, kStep), threads, [&](int64_t task) {
    for (int64_t r = task * kStep; r < std::min(all.num_items, (task + 1) * kStep); ++r) {
      lengths[r] = exact_dot(all.row(r), all.row(r), all.dim);
    }
  });
  return lengths;
}

// The longest first: the K-th best score is soon known, and the rows too short to reach it form the tail.
std::vector<int32_t> by_length(const SlotRows& all, int threads) {
  const std::vector<double> lengths = lengths_of(all, threads);
  std::vector<int32_t> order(all.num_items);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int32_t a, int32_t b) { return lengths[a] == lengths[b] ? a < b : lengths[a] > lengths[b]; });
  return order;
}

// Rows by cluster, then by length, alternately up and down, so that lengths are similar at both sides of a border.
std::vector<int32_t> by_cluster(const SlotRows& all, const Clusters& clusters, int threads) {
  std::vector<int32_t> assigned(all.num_items);
  clusters.assign(all.vectors, all.num_items, assigned.data(), threads);
  const std::vector<double> lengths = lengths_of(all, threads);
  std::vector<int64_t> first(clusters.size() + 1);
  for (const int32_t cluster : assigned) ++first[cluster + 1];
  for (int64_t c = 0; c < clusters.size(); ++c) first[c + 1] += first[c];
  std::vector<int32_t> order(all.num_items);
  std::vector<int64_t> next(first.begin(), first.end() - 1);
  for (int64_t r = 0; r < all.num_items; ++r) order[next[assigned[r]]++] = static_cast<int32_t>(r);
  parallel_for(clusters.size(), threads, [&](int64_t c) {
    std::sort(order.begin() + first[c], order.begin() + first[c + 1], [&](int32_t a, int32_t b) {
      return lengths[a] == lengths[b] ? a < b : (lengths[a] < lengths[b]) == (c % 2 == 0);
    });
  });
  return order;
}

struct TrialCell {
  std::vector<float> centre;
  double radius;
  double bias;
};

TrialCell trial_cell(const SlotRows& all, const int32_t* rows) {
  const float* members[kTrialCellRows];
  TrialCell cell = {std::vector<float>(all.dim), 0, all.bias_of(rows[0])};
  for (int64_t r = 0; r < kTrialCellRows; ++r) {
    members[r] = all.row(rows[r]);
    cell.bias = std::max(cell.bias, static_cast<double>(all.bias_of(rows[r])));
  }
  write_mean({members, kTrialCellRows}, all.dim, cell.centre.data());
  cell.radius = radius({members, kTrialCellRows}, all.dim, cell.centre.data());
  return cell;
}

// Pearson correlation between lengths and biases of the sampled rows; 0 if one of them does not vary.
double length_and_bias_correlation(const SlotRows& all, const std::vector<int32_t>& sample) {
  if (all.bias == nullptr) return 0;
  const auto count = static_cast<double>(sample.size());
  double x = 0, y = 0, xx = 0, yy = 0, xy = 0;
  for (const int32_t item : sample) {
    const double length = std::sqrt(exact_dot(all.row(item), all.row(item), all.dim)), bias = all.bias_of(item);
    x += length;
    y += bias;
    xx += length * length;
    yy += bias * bias;
    xy += length * bias;
  }
  const double variances = (xx - x * x / count) * (yy - y * y / count);
  return variances > 0 && std::isfinite(variances) ? (xy - x * y / count) / std::sqrt(variances) : 0;
}

// The share of the sample's cells that a query must visit to find the best other row. Queries are rows of the sample,
// scaled to the length of users' vectors.
double needed_share(const SlotRows& all, const std::vector<int32_t>& sample, int threads) {
  const auto size = static_cast<int64_t>(sample.size());
  const int64_t num_cells = size / kTrialCellRows;
  if (num_cells == 0) return 0;
  std::vector<TrialCell> cells(num_cells);
  parallel_for(num_cells, threads, [&](int64_t c) { cells[c] = trial_cell(all, sample.data() + c * kTrialCellRows); });
  std::vector<int64_t> needed(kTrialQueries);
  parallel_for(kTrialQueries, threads, [&](int64_t q) {
    const int32_t query = sample[q * size / kTrialQueries];
    const float* x = all.row(query);
    double best = -std::numeric_limits<double>::infinity();
    for (const int32_t item : sample) {
      if (item != query) best = std::max(best, kTrialLength * exact_dot(x, all.row(item), all.dim) + all.bias_of(item));
    }
    const double norm = std::sqrt(exact_dot(x, x, all.dim));
    for (const TrialCell& cell : cells) {
      const double bound = exact_dot(x, cell.centre.data(), all.dim) + norm * cell.radius;
      needed[q] += kTrialLength * bound + cell.bias >= best ? 1 : 0;
    }
  });
  int64_t total = 0;
  for (const int64_t count : needed) total += count;
  return static_cast<double>(total) / static_cast<double>(num_cells * kTrialQueries);
}

}  // namespace

RowOrder order_rows(const float* vectors, const float* bias, int64_t num_items, int64_t dim, Ordering ordering,
                    int threads) {
  if (ordering == Ordering::kNever || num_items < 1 || num_items > kMostRows) return {};
  if (ordering == Ordering::kWherePaying && num_items < kLeastRows) return {};
  const SlotRows all = {vectors, bias, num_items, dim, nullptr};
  const auto root = static_cast<int64_t>(std::sqrt(static_cast<double>(num_items)));
  const int64_t wanted = std::min(root, kMostClusters) * kSampleRowsPerCluster;
  const int64_t size = std::clamp(std::min(wanted, kSampleValues / dim), int64_t{1}, num_items);
  const std::vector<int32_t> sample = sample_rows(num_items, size);
  const Clusters clusters(vectors, dim, sample, size / kSampleRowsPerCluster + 1, threads);
  std::vector<float> sampled(size * dim);
  for (int64_t i = 0; i < size; ++i) std::copy_n(all.row(sample[i]), dim, sampled.data() + i * dim);
  const SlotRows some = {sampled.data(), nullptr, size, dim, nullptr};
  const auto needs_at_most = [&](double share, std::vector<int32_t> trial) {
    for (int32_t& row : trial) row = sample[row];
    return needed_share(all, trial, threads) <= share;
  };
  const bool is_clustered = needs_at_most(kMostNeeded, by_cluster(some, clusters, threads));
  if (!is_clustered && length_and_bias_correlation(all, sample) >= kLeastCorrelation &&
      needs_at_most(kMostNeededByLength, by_length(some, threads))) {
    return {by_length(all, threads), true};
  }
  if (!is_clustered && ordering == Ordering::kWherePaying) return {};
  return {by_cluster(all, clusters, threads), false};
}

}  // namespace lsif::engine
