#include "engine/excluded.h"

#include <algorithm>
#include <cstddef>
#include <stdexcept>

#include "engine/offsets.h"
#include "engine/score_checks.h"

namespace lsif::engine {

Excluded::Excluded(const ScoreTopkRequest& request, int64_t num_items) : first_(request.batch + 1) {
  const int64_t* offsets = request.exclude_offsets;
  if (offsets == nullptr) {
    if (request.exclude_items == nullptr) return;
    throw std::invalid_argument("exclude_offsets: expected batch + 1 offsets into exclude_items, got none");
  }
  check_offsets("exclude_offsets", offsets, request.batch, offsets[request.batch]);
  check_score_rows("exclude_items", request.exclude_items, offsets, request.batch, num_items);
  for (int64_t user = 0; user < request.batch; ++user) {
    const auto begin = static_cast<std::ptrdiff_t>(items_.size());
    items_.insert(items_.end(), request.exclude_items + offsets[user], request.exclude_items + offsets[user + 1]);
    std::sort(items_.begin() + begin, items_.end());
    items_.erase(std::unique(items_.begin() + begin, items_.end()), items_.end());
    first_[user + 1] = static_cast<int64_t>(items_.size());
  }
}

}  // namespace lsif::engine
