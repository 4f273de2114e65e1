// Users who have so few rows, by a filter or because the catalogue is small, that scoring all of them is less work than
// scanning codes.
#pragma once

#include <cstdint>
#include <span>

#include "engine/excluded.h"
#include "engine/interests.h"
#include "engine/score_topk.h"
#include "engine/scratch.h"
#include "kernels/cpu/table.h"

namespace lsif::engine {

// What score_topk() writes, for those of its users who have few allowed rows. Refuses a result whose score is beyond
// float32. Returns the others, ascending, who are to be answered by a scan, in memory of `scratch`. `request` has
// passed its checks.
std::span<const int64_t> answer_few_rows(const CatalogView& catalog, const ScoreTopkRequest& request,
                                         const Interests& interests, const Excluded& excluded,
                                         const cpu::KernelTable& kernels, int threads, float* scores, int64_t* indices,
                                         int64_t* counts, Scratch& scratch);

}  // namespace lsif::engine
