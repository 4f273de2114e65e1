// k-means on directions, used to order a catalogue's rows before coding                 (docs/score_topk.md, "Cells")
#pragma once

#include <cstdint>
#include <vector>

namespace lsif::engine {

class Clusters {
 public:
  // Clusters the directions of these rows of vectors ([.., dim], finite); the same for any number of threads.
  Clusters(const float* vectors, int64_t dim, const std::vector<int32_t>& rows, int64_t num_clusters, int threads);

  // Clusters are numbered so that neighbours are close to each other.
  int64_t size() const { return size_; }

  // Assigns each row to the cluster whose centre has the largest inner product with it: assigned [num_rows].
  void assign(const float* vectors, int64_t num_rows, int32_t* assigned, int threads) const;

 private:
  void chain_centres();
  void move_centres(const float* directions, const std::vector<int32_t>& assigned);

  int64_t dim_;
  int64_t size_;                // a multiple of kLinearPanel
  std::vector<float> centres_;  // [size, dim], each of length 1 or 0
};

}  // namespace lsif::engine
