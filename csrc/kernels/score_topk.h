// Exact top-K of a catalogue by inner product, at the cost of a scan of 4-bit codes         (docs/score_topk.md)
//
//   score(x, b) = q . x + b                                        one interest
//   score(x, b) = tau log sum_j w_j exp(q_j . x / tau) + b         several interests; w_j >= 0, any sum above 0
//
// Contract: returns the k best of the rows scanned, ordered by (score descending, row ascending). The score is the
// float64 value of the formula on the float32 inputs, summed in an order that depends only on `dim` and rounded once to
// float32. So the result is the same for every ISA, batch, thread count and block size.
//
// Method: row i is stored as 4-bit codes c_i with a scale s_i and an upper bound r_i of |x_i - s_i c_i| / s_i. A query
// is stored as int8 codes p with a scale t and upper bounds of |q - t p| and |q|. Then (Cauchy-Schwarz)
//
//   q.x <= s (t p.c + |q - t p| |c| + |q| r)
//
// An integer pass computes p.c for all rows. Rows whose upper bound is below the running K-th best exact score are
// dropped. The few others are scored, the most promising first: in float32, and then exactly unless the float32 score
// plus its error bound is below the K-th best. For several interests, with u_j an upper bound of q_j . x, a row is
// dropped if sum_j w_j exp((u_j + b - K-th best) / tau) < 1, with upper bounds of the exponentials. The bound of a row
// that remains is the formula with u_j in place of q_j . x or, where exponentials are out of range, min(max_j u_j + tau
// log sum_j w_j, max_j (u_j + tau log w_j) + tau log M) + b. All bounds are rounded outwards; a row that belongs among
// the k best is never dropped by its bound.
#pragma once

#include "kernels/types.h"

namespace lsif {

// Limits for which the integer pass and the slack of the bounds are designed.
inline constexpr int64_t kMaxScoreDim = 65536;
inline constexpr int64_t kMaxScoreInterests = 256;

// Codes of rows are stored in groups of 16 rows: one 64-byte line of side data (GroupSide), then one line per 8
// dimensions. Bytes 4 r .. 4 r + 3 of such a line belong to row r: their low halves hold the codes of the first four
// dimensions plus 8, their high halves those of the other four. Halves past dim or num_items are 0.
inline constexpr int64_t kGroupRows = 16;
inline constexpr int64_t kLineBytes = 64;
inline constexpr int64_t kLineDims = 8;
inline constexpr int kCodeOffset = 8;  // codes lie in [-8, 7]

constexpr int64_t num_groups(int64_t num_items) { return divide_up(num_items, kGroupRows); }
constexpr int64_t group_lines(int64_t dim) { return 1 + divide_up(dim, kLineDims); }
constexpr int64_t group_bytes(int64_t dim) { return group_lines(dim) * kLineBytes; }

// The bounds of a group's rows. Units are powers of two, so that all products here are exact in float32:
//   scale s = scale_unit scales[r]      |x - s c| <= s error_unit errors[r]      bias <= bias_base + bias_unit
//   biases[r]
// If the norm of a row exceeds float32, its group has an infinite bias_base and is otherwise 0: its rows are never
// dropped.
struct GroupSide {
  uint8_t scales[kGroupRows];
  uint8_t errors[kGroupRows];
  uint8_t biases[kGroupRows];
  float scale_unit;
  float bias_base;
  float bias_unit;
  uint16_t error_unit;  // like code_norm, the upper half of a float32
  uint16_t code_norm;   // >= |c| of every row
};
static_assert(sizeof(GroupSide) == kLineBytes);

// The coded rows may be reordered, either so that similar rows are adjacent or by length. `order` then gives the row of
// each slot, and groups are formed in slot order. Each group is a cell, and 16 cells form a region. Cells and regions
// are coded like rows: all rows x of one have |x - s c| <= s r and biases no larger than its own. If the upper bound of
// a cell or region is below the K-th best score, all its rows are skipped.
inline constexpr int64_t kCellRows = kGroupRows;
inline constexpr int64_t kRegionRows = kCellRows * kGroupRows;   // a region's cells form a group
inline constexpr int64_t kRangeRows = kRegionRows * kGroupRows;  // a range's regions form a group

constexpr int64_t num_cells(int64_t num_items) { return divide_up(num_items, kCellRows); }
constexpr int64_t num_regions(int64_t num_items) { return divide_up(num_items, kRegionRows); }

struct CodesView {
  const uint8_t* groups;             // [num_groups(num_items), group_bytes(dim)], at any address
  float row_size;                    // >= |s c| + s r of all rows, except in groups that are never dropped
  float bias_size;                   // >= |b| of every row
  float longest_row = 0;             // >= |x| of every row; infinity if that exceeds float32
  const uint8_t* cells = nullptr;    // [num_groups(num_cells(num_items)), group_bytes(dim)]; null: no order
  const uint8_t* regions = nullptr;  // [num_groups(num_regions(num_items)), group_bytes(dim)]; or null
  const uint8_t* order = nullptr;    // int32 [num_items], the row of each slot, a permutation, at any address; or null
  bool by_length = false;            // the order begins with the longest rows, except for later updates
};

// A catalogue: the exact rows and their codes. All values are finite. engine/codes.h makes and checks codes.
struct CatalogView {
  const float* vectors;  // [num_items, dim]
  const float* bias;     // [num_items], or null: zero
  CodesView codes;
  int64_t num_items;
  int64_t dim;
};

// The users' side of a score. Without weights, num_interests must be 1 and score = q . x + b. With weights, also for
// one interest, score = temperature * log sum_j weights[j] exp(q_j . x / temperature) + b.
struct ScoreQueries {
  const float* vectors = nullptr;  // [batch, num_interests, dim], finite
  const float* weights = nullptr;  // [batch, num_interests], finite, >= 0, some > 0; 0: ignored. Or null
  double temperature = 1.0;        // a positive, normal float32 number; unused without weights
  int64_t batch = 0;
  int64_t num_interests = 1;  // 1 .. kMaxScoreInterests
};

struct ScoredItem {
  float score;
  int64_t item;
};

// Query codes are padded with zeros to whole lines.
constexpr int64_t query_stride(int64_t dim) { return divide_up(dim, kLineDims) * kLineDims; }

// One user's query, prepared by the engine.
struct TopkQuery {
  const float* vectors;       // [num_interests, dim]
  const int8_t* codes;        // [num_interests, query_stride(dim)], in [-127, 127]
  const int32_t* code_sums;   // [num_interests], the sum of each row of codes
  const float* scales;        // [num_interests], 0 or a normal number
  const float* errors;        // [num_interests], >= |q - t p|
  const float* norms;         // [num_interests], >= |q|
  float error_share = 1;      // fraction of |q - t p| |c| + |q| r used in bounds; below 1 is faster but may miss rows
  const float* weights;       // [num_interests], > 0; or null: score = q . x + b, num_interests is 1
  const double* log_weights;  // [num_interests], temperature * log(weights[j]); null without weights
  double log_total;           // temperature * log(sum of weights)
  int64_t num_interests;      // 1 .. kMaxScoreInterests
  double temperature;         // > 0
  const int64_t* exclude;     // [num_exclude] rows never returned, strictly increasing
  int64_t num_exclude;
  const uint64_t* allowed;  // bit i % 64 of word i / 64: row i may be returned; or null: all may
  // The best rows found so far, and their number. best[0] is the worst of them (a heap).
  ScoredItem* best;  // [k]
  int64_t num_best;  // 0 when the scan begins
  int64_t k;         // >= 1
  // The largest K-th best score known from any scan for this user, -infinity at first; or null. Scans of other rows may
  // run at the same time; all of them read and raise it atomically.
  float* known_score;
};

// Scans rows [first_item, last_item), or slots if there is an order, for all queries, and sets best and num_best of
// each. All queries have weights or none has; all have the same k and error_share. Scores beyond float32 are kept as
// infinities; the engine refuses them. first_item is a multiple of kRangeRows; so is last_item, unless it is num_items.
// scratch: score_topk_scratch_size() bytes, 64-byte aligned.
using ScoreTopkFn = void(const CatalogView& catalog, int64_t first_item, int64_t last_item, TopkQuery* queries,
                         int64_t num_queries, void* scratch);

inline constexpr int64_t kMaxScanRows = int64_t{1} << 31;  // in one call
inline constexpr int64_t kScanBlock = 256;  // the most rows whose codes stay in cache while all queries scan them

// The most rows per query that may wait to be scored exactly: the longer they wait, the fewer have to be scored. All
// queries' lists together fit in an L2 cache, unless k is large.
constexpr int64_t max_candidates(int64_t num_queries, int64_t k) {
  const int64_t least = 256 + 4 * (k < 2048 ? k : 2048);
  const int64_t share = num_queries < 8 ? 16384 : 131072 / num_queries;
  return least < share ? share : least;
}

inline constexpr int64_t kBytesPerScan = kScanBlock * 20 + kMaxScoreInterests * 2 * kLineBytes;
inline constexpr int64_t kBytesPerQuery = 152;
inline constexpr int64_t kBytesPerVector = 64;
inline constexpr int64_t kBytesPerCandidate = 8;
inline constexpr int64_t kTouchedCandidates = 2 * kGroupRows;  // slack: append_candidates() writes past the end
inline constexpr int64_t kRegionsAtOnce = 16384;               // regions bounded in one pass
inline constexpr int64_t kRegionsExpanded = 64;                // regions expanded into cells at a time

constexpr int64_t regions_at_once(int64_t num_items) {
  return num_regions(num_items) < kRegionsAtOnce ? num_regions(num_items) : kRegionsAtOnce;
}

// Scratch, counted in candidates, for one query if close rows are adjacent: listed cells, waiting rows, listed regions,
// and the bounds of all regions of a pass. Queries are then scanned one after another, so each may have the longest
// list.
constexpr int64_t num_ordered_candidates(const CatalogView& catalog, int64_t k) {
  if (catalog.codes.by_length) return 0;
  const int64_t at_once = regions_at_once(catalog.num_items);
  const int64_t all_bounds = divide_up(num_groups(at_once) * kGroupRows * 4, kBytesPerCandidate);
  return kRegionsExpanded * kGroupRows + at_once + all_bounds + max_candidates(1, k) + 3 * kTouchedCandidates;
}

inline constexpr int64_t kRowQueries = 16;     // the most that score rows together
inline constexpr int64_t kTogetherRows = 256;  // at a time, if there is no order

// Holds the rows' numbers, their scores, and the vectors of the queries.
constexpr int64_t together_scratch_size(int64_t dim) {
  return kTogetherRows * 8 + kRowQueries * (kTogetherRows + dim) * 4;
}

constexpr int64_t order_scratch_size(const CatalogView& catalog, int64_t num_queries, int64_t k) {
  if (catalog.codes.order != nullptr) return num_ordered_candidates(catalog, k) * kBytesPerCandidate;
  return num_queries == 1 ? 0 : together_scratch_size(catalog.dim);
}

// num_queries > 0; num_vectors: the total over all queries.
constexpr int64_t score_topk_scratch_size(const CatalogView& catalog, int64_t num_queries, int64_t num_vectors,
                                          int64_t k) {
  const int64_t candidates = max_candidates(num_queries, k) + kTouchedCandidates;
  return kBytesPerScan + order_scratch_size(catalog, num_queries, k) +
         num_queries * (kBytesPerQuery + candidates * kBytesPerCandidate) + num_vectors * kBytesPerVector;
}

// Scores the listed rows instead of scanning codes. Sets num_best of each query (initially 0) and best, at most
// topk_rows_room() rows in any order that include the k best: those ScoreTopkFn finds if `allowed` contains just these
// rows. Of a query it reads only vectors, weights, num_interests, temperature, exclude and k. Either all queries have
// weights or none has; all have the same k. There are at most kRowQueries queries. rows: strictly increasing, at most
// kMaxScanRows. scratch: topk_rows_scratch_size() bytes, 64-byte aligned.
using TopkRowsFn = void(const CatalogView& catalog, const int64_t* rows, int64_t num_rows, TopkQuery* queries,
                        int64_t num_queries, void* scratch);

// The size of `best` for TopkRowsFn. It may return a few more than k rows: the caller's sort removes these faster.
constexpr int64_t topk_rows_room(int64_t num_rows, int64_t k) {
  const int64_t room = k + k / 8 + 16;
  return num_rows < room ? num_rows : room;
}

constexpr int64_t row_scores_stride(int64_t num_rows) { return divide_up(num_rows, kGroupRows) * kGroupRows; }

constexpr int64_t topk_rows_scratch_size(int64_t num_queries, int64_t num_rows, int64_t dim) {
  return num_queries * row_scores_stride(num_rows) * 4 + kRowQueries * dim * 4 +
         (row_scores_stride(num_rows) + kGroupRows) * kBytesPerCandidate;
}

// The score of one row x with bias b, before its single rounding to float32. vectors, weights, num_interests and
// temperature are as in TopkQuery. This, not the scan, decides results: the same bits on every ISA.
using ExactScoreFn = double(const float* vectors, const float* weights, int64_t num_interests, double temperature,
                            const float* x, float b, int64_t dim);

}  // namespace lsif
