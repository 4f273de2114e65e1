// Checks of the arguments of score_topk and score_items, for every device. They throw std::invalid_argument, "argument:
// expected ..., got ...".
#pragma once

#include <cstdint>

#include "engine/score_topk.h"

namespace lsif::engine {

// Checks shapes, queries, weights and temperature. Of the catalogue it reads only num_items and dim.
void check_queries(const CatalogView& catalog, const ScoreQueries& request);

void check_k(int64_t k);

// Call check_k before allocating results. k is at most max(kMaxK, num_items), as in Python (arguments.py).
inline constexpr int64_t kMaxK = 1 << 20;
void check_k(int64_t k, int64_t num_items);

// For ScoreTopkRequest::error_share.
float check_error_share(double share);

// items [offsets[batch]], rows of a catalogue of num_items; those of user b are offsets[b] .. offsets[b + 1] - 1.
void check_score_rows(const char* argument, const int64_t* items, const int64_t* offsets, int64_t batch,
                      int64_t num_items);

// Throws if the score of a row to be returned does not fit float32.
void check_score(float score, int64_t user, int64_t item);

}  // namespace lsif::engine
