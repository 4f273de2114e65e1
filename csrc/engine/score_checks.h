// What score_topk and score_items ask of their arguments, on every device. Errors are std::invalid_argument, "argument:
// expected ..., got ...".
#pragma once

#include <cstdint>

#include "engine/score_topk.h"

namespace lsif::engine {

// Shapes, queries, weights and temperature. Of the catalogue only num_items and dim are read.
void check_queries(const CatalogView& catalog, const ScoreQueries& request);

void check_k(int64_t k);

// Before room is made for results: at most kMaxK or, if that is more, num_items, as in Python (arguments.py).
inline constexpr int64_t kMaxK = 1 << 20;
void check_k(int64_t k, int64_t num_items);

// As ScoreTopkRequest has it.
float check_error_share(double share);

// items [offsets[batch]], rows of a catalogue of num_items; those of user b are offsets[b] .. offsets[b + 1] - 1.
void check_score_rows(const char* argument, const int64_t* items, const int64_t* offsets, int64_t batch,
                      int64_t num_items);

// The score of a row that is to be returned fits float32.
void check_score(float score, int64_t user, int64_t item);

}  // namespace lsif::engine
