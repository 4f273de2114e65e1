// The rows a request leaves out, as score_topk's kernel wants them.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/score_topk.h"

namespace lsif::engine {

// The excluded rows of each user, strictly increasing. Throws std::invalid_argument for rows that do not exist or
// offsets that decrease.
class Excluded {
 public:
  Excluded(const ScoreTopkRequest& request, int64_t num_items);

  const int64_t* items(int64_t user) const { return items_.data() + first_[user]; }
  int64_t size_of(int64_t user) const { return first_[user + 1] - first_[user]; }

 private:
  std::vector<int64_t> first_;  // [batch + 1]
  std::vector<int64_t> items_;
};

}  // namespace lsif::engine
