#include "engine/clusters.h"

#include <algorithm>
#include <cmath>

#include "engine/scratch.h"
#include "engine/thread_pool.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/exact_dot.h"

namespace lsif::engine {
namespace {

constexpr int kRounds = 6;
constexpr int64_t kRowsPerTask = 64;

// x / |x|, or zeros if x is zero.
void write_direction(const float* x, int64_t dim, float* direction) {
  double norm = 0;
  for (int64_t i = 0; i < dim; ++i) norm += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  const double factor = norm == 0 ? 0.0 : 1 / std::sqrt(norm);
  for (int64_t i = 0; i < dim; ++i) direction[i] = static_cast<float>(static_cast<double>(x[i]) * factor);
}

// The index of the first largest value; size is a multiple of kLinearPanel. One maximum per lane lets it vectorize.
int32_t place_of_largest(const float* x, int64_t size) {
  float largest[kLinearPanel];
  int32_t places[kLinearPanel] = {};
  std::copy_n(x, kLinearPanel, largest);
  for (int64_t i = kLinearPanel; i < size; i += kLinearPanel) {
    for (int64_t j = 0; j < kLinearPanel; ++j) {
      const bool is_larger = x[i + j] > largest[j];
      largest[j] = is_larger ? x[i + j] : largest[j];
      places[j] = is_larger ? static_cast<int32_t>(i) : places[j];
    }
  }
  int64_t best = 0;
  for (int64_t j = 1; j < kLinearPanel; ++j) {
    const bool is_first = largest[j] == largest[best] && places[j] < places[best];
    if (largest[j] > largest[best] || is_first) best = j;
  }
  return places[best] + static_cast<int32_t>(best);
}

}  // namespace

Clusters::Clusters(const float* vectors, int64_t dim, const std::vector<int32_t>& rows, int64_t num_clusters,
                   int threads)
    : dim_(dim), size_(divide_up(num_clusters, kLinearPanel) * kLinearPanel), centres_(size_ * dim) {
  const auto count = static_cast<int64_t>(rows.size());
  std::vector<float> directions(count * dim);
  for (int64_t i = 0; i < count; ++i) write_direction(vectors + rows[i] * dim, dim, directions.data() + i * dim);
  for (int64_t c = 0; c < size_; ++c) {
    std::copy_n(directions.data() + c * count / size_ * dim, dim, centres_.data() + c * dim);
  }
  std::vector<int32_t> assigned(count);
  for (int round = 0; round < kRounds; ++round) {
    assign(directions.data(), count, assigned.data(), threads);
    move_centres(directions.data(), assigned);
  }
  chain_centres();
}

// Greedy order: each centre is followed by the nearest of those that remain.
void Clusters::chain_centres() {
  const auto centre = [&](int64_t c) { return centres_.data() + c * dim_; };
  for (int64_t c = 1; c < size_; ++c) {
    int64_t nearest = c;
    double largest = -2;
    for (int64_t other = c; other < size_; ++other) {
      const double product = exact_dot(centre(c - 1), centre(other), dim_);
      if (product > largest) nearest = other, largest = product;
    }
    std::swap_ranges(centre(c), centre(c) + dim_, centre(nearest));
  }
}

void Clusters::assign(const float* vectors, int64_t num_rows, int32_t* assigned, int threads) const {
  Scratch scratch;
  float* packed = scratch.floats(packed_linear_size(dim_, size_));
  pack_linear(centres_.data(), dim_, size_, packed);
  const LinearParams params = {packed, nullptr, dim_, size_, Activation::kIdentity};
  parallel_for(divide_up(num_rows, kRowsPerTask), threads, [&](int64_t task) {
    const int64_t begin = task * kRowsPerTask;
    const int64_t count = std::min(kRowsPerTask, num_rows - begin);
    Scratch own;
    float* products = own.floats(count * size_);
    cpu::kernels().linear(params, vectors + begin * dim_, dim_, nullptr, 0, products, size_, count);
    for (int64_t r = 0; r < count; ++r) assigned[begin + r] = place_of_largest(products + r * size_, size_);
  });
}

// Moves each centre to the mean direction of its rows; a centre without rows stays where it is.
void Clusters::move_centres(const float* directions, const std::vector<int32_t>& assigned) {
  std::vector<double> sums(centres_.size());
  for (size_t r = 0; r < assigned.size(); ++r) {
    double* sum = sums.data() + assigned[r] * dim_;
    const float* x = directions + static_cast<int64_t>(r) * dim_;
    for (int64_t i = 0; i < dim_; ++i) sum[i] += static_cast<double>(x[i]);
  }
  for (int64_t c = 0; c < size_; ++c) {
    const double* sum = sums.data() + c * dim_;
    double norm = 0;
    for (int64_t i = 0; i < dim_; ++i) norm += sum[i] * sum[i];
    if (norm == 0) continue;
    for (int64_t i = 0; i < dim_; ++i) centres_[c * dim_ + i] = static_cast<float>(sum[i] / std::sqrt(norm));
  }
}

}  // namespace lsif::engine
