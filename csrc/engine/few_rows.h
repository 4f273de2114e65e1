// Users who have so few rows, because of a filter or a small catalogue, that scoring all of them is cheaper than
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

// Writes what score_topk() would for those users who have few allowed rows. Throws if a result's score is beyond
// float32. Returns the other users, ascending, for the scan to answer, in memory of `scratch`. `request` has passed its
// checks.
std::span<const int64_t> answer_few_rows(const CatalogView& catalog, const ScoreTopkRequest& request,
                                         const Interests& interests, const Excluded& excluded,
                                         const cpu::KernelTable& kernels, int threads, float* scores, int64_t* indices,
                                         int64_t* counts, Scratch& scratch);

}  // namespace lsif::engine
