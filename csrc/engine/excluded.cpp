#include "engine/excluded.h"

#include "engine/refuse.h"
#include "engine/score_checks.h"

namespace lsif::engine {

Excluded::Excluded(std::span<const RaggedRows> parts, int64_t batch, int64_t num_items, Scratch& scratch)
    : first_(scratch.ints(batch + 1)) {
  int64_t most = 0;
  for (const RaggedRows& part : parts) {
    if (part.offsets == nullptr) {
      if (part.rows == nullptr) continue;
      refuse("exclude_offsets", "batch + 1 offsets into exclude_items", "none");
    }
    check_offsets("exclude_offsets", part.offsets, batch, part.offsets[batch]);
    check_score_rows("exclude_items", part.rows, part.offsets, batch, num_items);
    most += part.offsets[batch];
  }
  items_ = scratch.ints(most);
  unite(parts, batch, items_, first_);
}

}  // namespace lsif::engine
