#include "engine/excluded.h"

#include <algorithm>

#include "engine/offsets.h"
#include "engine/ragged_union.h"
#include "engine/refuse.h"
#include "engine/score_checks.h"

namespace lsif::engine {

Excluded::Excluded(const ScoreTopkRequest& request, int64_t num_items, Scratch& scratch)
    : first_(scratch.ints(request.batch + 1)) {
  std::fill_n(first_, request.batch + 1, 0);
  const int64_t* offsets = request.exclude_offsets;
  if (offsets == nullptr) {
    if (request.exclude_items == nullptr) return;
    refuse("exclude_offsets", "batch + 1 offsets into exclude_items", "none");
  }
  check_offsets("exclude_offsets", offsets, request.batch, offsets[request.batch]);
  check_score_rows("exclude_items", request.exclude_items, offsets, request.batch, num_items);
  items_ = scratch.ints(offsets[request.batch]);
  const RaggedRows rows = {request.exclude_items, offsets};
  unite({&rows, 1}, request.batch, items_, first_);
}

}  // namespace lsif::engine
