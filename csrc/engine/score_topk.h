// The exact top-K of a catalogue for a batch of users, on all threads                (docs/score_topk.md)
//
// Checks its arguments, codes the queries, splits users and rows over threads and merges the results. Results do not
// depend on the batch, the number of threads or the kernels in use. Errors are std::invalid_argument, "argument:
// expected ..., got ...".
#pragma once

#include <cstdint>

#include "kernels/cpu/dispatch.h"
#include "kernels/score_topk.h"

namespace lsif::engine {

struct ScoreTopkRequest : ScoreQueries {
  int64_t k = 0;                             // >= 1; may exceed the catalogue
  const int64_t* exclude_items = nullptr;    // rows never returned, for all users: any order, repeats allowed; or null
  const int64_t* exclude_offsets = nullptr;  // [batch + 1]: user b excludes items offsets[b] .. offsets[b + 1] - 1
  const uint64_t* const* allowed = nullptr;  // [batch] bitmaps of rows (TopkQuery), entries may be null; or null: all
  int threads = 0;                           // 0: default_threads()
  float error_share = 1;                     // 1: exact (TopkQuery); in [0, 1]
};

// Number of tasks per thread that work is split into, so that threads that finish early find more to do.
inline constexpr int64_t kTasksPerThread = 2;

// For each user writes the counts[b] = min(k, allowed rows) best rows, higher score first, then lower row. Memory
// besides the results is for min(k, num_items) rows or, under a filter that allows few rows (few_rows.h), for those.
//   scores [batch, k], 0 past counts; indices [batch, k], -1 past counts; counts [batch]
// Throws if a result's score is beyond float32.
void score_topk(const CatalogView& catalog, const ScoreTopkRequest& request, float* scores, int64_t* indices,
                int64_t* counts, const cpu::KernelTable& kernels = cpu::kernels());

// Exact scores of given rows, rounded as in score_topk: scores[i] is the score of row items[i] for the user b with
// item_offsets[b] <= i < item_offsets[b + 1].
//   items, scores [item_offsets[batch]]; item_offsets [batch + 1], from 0, not decreasing
void score_items(const CatalogView& catalog, const ScoreQueries& queries, const int64_t* items,
                 const int64_t* item_offsets, float* scores, int threads,
                 const cpu::KernelTable& kernels = cpu::kernels());

}  // namespace lsif::engine
