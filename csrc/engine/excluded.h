// The rows a request excludes, in the form score_topk's kernel takes.
#pragma once

#include <cstdint>
#include <span>

#include "engine/ragged.h"
#include "engine/scratch.h"

namespace lsif::engine {

// For each user the union of the parts, strictly increasing, in memory of `scratch`. Throws std::invalid_argument for
// rows that do not exist or offsets that decrease.
class Excluded {
 public:
  Excluded(std::span<const RaggedRows> parts, int64_t batch, int64_t num_items, Scratch& scratch);

  // Of all users, concatenated: user b's are items()[offsets()[b]] .. items()[offsets()[b + 1] - 1].
  const int64_t* items() const { return items_; }
  const int64_t* offsets() const { return first_; }

  const int64_t* items(int64_t user) const { return items_ + first_[user]; }
  int64_t size_of(int64_t user) const { return first_[user + 1] - first_[user]; }

 private:
  int64_t* first_;  // [batch + 1]
  int64_t* items_;
};

}  // namespace lsif::engine
