// k-means of directions, for the order in which a catalogue's rows are coded            (docs/score_topk.md, "Cells")
#pragma once

#include <cstdint>
#include <vector>

namespace lsif::engine {

class Clusters {
 public:
  // Of the directions of so many rows of vectors ([.., dim], finite). The same for any number of threads.
  Clusters(const float* vectors, int64_t dim, const std::vector<int32_t>& rows, int64_t num_clusters, int threads);

  // Clusters are numbered so that those beside each other are close.
  int64_t size() const { return size_; }

  // The cluster of each row, that whose centre has the largest product with it: assigned [num_rows].
  void assign(const float* vectors, int64_t num_rows, int32_t* assigned, int threads) const;

 private:
  void chain_centres();
  void move_centres(const float* directions, const std::vector<int32_t>& assigned);

  int64_t dim_;
  int64_t size_;                // a multiple of kLinearPanel
  std::vector<float> centres_;  // [size, dim], of length 1 or 0
};

}  // namespace lsif::engine
