// Exact top-K of a catalogue by inner product, at the cost of a scan of 4-bit codes         (docs/score_topk.md)
//
//   score(x, b) = q . x + b                                        one interest
//   score(x, b) = tau log sum_j w_j exp(q_j . x / tau) + b         several interests; w_j >= 0, any sum above 0
//
// Contract: the k best of the rows scanned, ordered by (score descending, row ascending), where score is the float64
// value of the formula on the float32 inputs, summed in an order fixed by `dim` alone and rounded once to float32. So
// the result is the same on every ISA, for every batch, thread count and block size.
//
// How: row i is stored as 4-bit codes c_i with a scale s_i and an upper bound r_i of |x_i - s_i c_i| / s_i. A query is
// stored as int8 codes p with a scale t and upper bounds of |q - t p| and |q|. Then (Cauchy-Schwarz)
//
//   q.x <= s (t p.c + |q - t p| |c| + |q| r)
//
// An integer pass computes p.c for all rows; rows whose upper bound is below the running K-th best exact score are
// dropped, the few others are gathered, the most promising first, and scored: in float32, and exactly if that, give or
// take its error, is not below. For several interests, with u_j
// the bound of q_j . x, rows are dropped for which sum_j w_j exp((u_j + b - K-th best) / tau) < 1, exponentials
// taken from above; the bound of those left is the formula with u_j in place of q_j . x, or, where exponentials are out
// of range, min(max_j u_j + tau log sum_j w_j, max_j (u_j + tau log w_j) + tau log M) + b. All bounds are rounded
// outwards; a row that belongs among the k best is never dropped by its bound.
#pragma once

#include "kernels/types.h"

namespace lsif {

// What the integer pass and the slack of the bounds are made for.
inline constexpr int64_t kMaxScoreDim = 65536;
inline constexpr int64_t kMaxScoreInterests = 256;

// Codes of rows are stored in groups of 16 rows: one line of 64 bytes of side data (GroupSide), then one line for every
// 8 dimensions. Bytes 4 r .. 4 r + 3 of that line belong to row r: the low halves of the bytes hold its codes of the
// first four dimensions plus 8, the high halves those of the other four. Halves past dim or num_items are 0.
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
// A row whose norm is beyond float32 gives its group an infinite bias_base and zeros: none of its rows is ever dropped.
struct GroupSide {
  uint8_t scales[kGroupRows];
  uint8_t errors[kGroupRows];
  uint8_t biases[kGroupRows];
  float scale_unit;
  float bias_base;
  float bias_unit;
  uint16_t error_unit;  // both as the upper half of a float32
  uint16_t code_norm;   // >= |c| of every row
};
static_assert(sizeof(GroupSide) == kLineBytes);

// Rows that lie close together may be coded beside each other, or rows by length: then `order` says which row has which
// slot, and groups are those of the rows in that order. Each group is a cell, and 16 cells are a region. Cells and
// regions are coded like rows: all their rows x have |x - s c| <= s r and biases no larger than theirs. None of them is
// looked at if the bound of the cell or region is below the K-th best.
inline constexpr int64_t kCellRows = kGroupRows;
inline constexpr int64_t kRegionRows = kCellRows * kGroupRows;   // whose cells are a group
inline constexpr int64_t kRangeRows = kRegionRows * kGroupRows;  // whose regions are a group

constexpr int64_t num_cells(int64_t num_items) { return divide_up(num_items, kCellRows); }
constexpr int64_t num_regions(int64_t num_items) { return divide_up(num_items, kRegionRows); }

struct CodesView {
  const uint8_t* groups;             // [num_groups(num_items), group_bytes(dim)], at any address
  float row_size;                    // >= |s c| + s r of everything but groups that are never dropped
  float bias_size;                   // >= |b| of every row
  float longest_row = 0;             // >= |x| of every row; infinity: beyond float32
  const uint8_t* cells = nullptr;    // [num_groups(num_cells(num_items)), group_bytes(dim)]; or null: no order
  const uint8_t* regions = nullptr;  // [num_groups(num_regions(num_items)), group_bytes(dim)]; or null
  const uint8_t* order = nullptr;    // int32 [num_items], the row of each slot, all different, at any address; or null
  bool by_length = false;            // the order's first rows are the longest, but for what changed since
};

// A catalogue: the exact rows and their codes. All finite. engine/codes.h makes and checks codes.
struct CatalogView {
  const float* vectors;  // [num_items, dim]
  const float* bias;     // [num_items], or null: zero
  CodesView codes;
  int64_t num_items;
  int64_t dim;
};

// The users' side of a score. Without weights num_interests must be 1 and score = q . x + b; with weights it is
// temperature * log sum_j weights[j] exp(q_j . x / temperature) + b, also for one interest.
struct ScoreQueries {
  const float* vectors = nullptr;  // [batch, num_interests, dim], finite
  const float* weights = nullptr;  // [batch, num_interests], finite, >= 0, some > 0; 0: takes no part. Or null
  double temperature = 1.0;        // a positive, normal float32 number; unused without weights
  int64_t batch = 0;
  int64_t num_interests = 1;  // 1 .. kMaxScoreInterests
};

struct ScoredItem {
  float score;
  int64_t item;
};

// Codes of queries are padded with zeros to a whole number of lines' dimensions.
constexpr int64_t query_stride(int64_t dim) { return divide_up(dim, kLineDims) * kLineDims; }

// One user's question, prepared by the engine.
struct TopkQuery {
  const float* vectors;       // [num_interests, dim]
  const int8_t* codes;        // [num_interests, query_stride(dim)], in [-127, 127]
  const int32_t* code_sums;   // [num_interests], the sum of each row of codes
  const float* scales;        // [num_interests], 0 or a normal number
  const float* errors;        // [num_interests], >= |q - t p|
  const float* norms;         // [num_interests], >= |q|
  float error_share = 1;      // of |q - t p| |c| + |q| r that bounds count; below 1 rows may be lost, in less time
  const float* weights;       // [num_interests], > 0; or null: score = q . x + b, num_interests is 1
  const double* log_weights;  // [num_interests], temperature * log(weights[j]); null without weights
  double log_total;           // temperature * log(sum of weights)
  int64_t num_interests;      // 1 .. kMaxScoreInterests
  double temperature;         // > 0
  const int64_t* exclude;     // [num_exclude] rows never returned, strictly increasing
  int64_t num_exclude;
  const uint64_t* allowed;  // bit i % 64 of word i / 64: row i may be returned; or null: all may
  // The best of the rows scanned, and how many. best[0] is the worst one kept (a heap).
  ScoredItem* best;  // [k]
  int64_t num_best;  // 0 when the scan begins
  int64_t k;         // >= 1
  // Or null: the largest K-th best score that any scan for this user knows of, -infinity to begin with. Scans of other
  // rows may run at the same time; all of them read and raise it as an atomic.
  float* known_score;
};

// Scans rows [first_item, last_item), or slots where there is an order, for all queries, which all have weights or none
// has, and all the same k and error_share; sets best and num_best of each. Scores beyond float32 are kept as
// infinities: the engine refuses them. first_item is a multiple of kRangeRows, last_item is, too, or num_items.
// scratch: score_topk_scratch_size() bytes, 64-byte aligned.
using ScoreTopkFn = void(const CatalogView& catalog, int64_t first_item, int64_t last_item, TopkQuery* queries,
                         int64_t num_queries, void* scratch);

inline constexpr int64_t kMaxScanRows = int64_t{1} << 31;  // of one call
inline constexpr int64_t kScanBlock = 256;  // rows at most whose codes stay in the cache while all queries see them

// Rows of each query that may wait for being scored exactly: the longer they wait, the fewer are scored in the end. The
// lists of all queries are a second cache's size together, unless k is large.
constexpr int64_t max_candidates(int64_t num_queries, int64_t k) {
  const int64_t least = 256 + 4 * (k < 2048 ? k : 2048);
  const int64_t share = num_queries < 8 ? 16384 : 131072 / num_queries;
  return least < share ? share : least;
}

inline constexpr int64_t kBytesPerScan = kScanBlock * 20 + kMaxScoreInterests * 2 * kLineBytes;
inline constexpr int64_t kBytesPerQuery = 152;
inline constexpr int64_t kBytesPerVector = 64;
inline constexpr int64_t kBytesPerCandidate = 8;
inline constexpr int64_t kTouchedCandidates = 2 * kGroupRows;  // past those that wait, by append_candidates()
inline constexpr int64_t kRegionsAtOnce = 16384;               // whose bounds are compared with each other
inline constexpr int64_t kRegionsExpanded = 64;                // into their cells, at a time

constexpr int64_t regions_at_once(int64_t num_items) {
  return num_regions(num_items) < kRegionsAtOnce ? num_regions(num_items) : kRegionsAtOnce;
}

// What the scan of one query keeps where close rows are beside each other: bounds of cells and of regions, once of all
// and once of those that are listed, and rows that wait. Queries are scanned one after another then, and each has the
// longest list.
constexpr int64_t num_ordered_candidates(const CatalogView& catalog, int64_t k) {
  if (catalog.codes.by_length) return 0;
  const int64_t at_once = regions_at_once(catalog.num_items);
  const int64_t all_bounds = divide_up(num_groups(at_once) * kGroupRows * 4, kBytesPerCandidate);
  return kRegionsExpanded * kGroupRows + at_once + all_bounds + max_candidates(1, k) + 3 * kTouchedCandidates;
}

inline constexpr int64_t kRowQueries = 16;     // that rows are scored for together, at most
inline constexpr int64_t kTogetherRows = 256;  // at a time, where there is no order

// The rows' numbers, their scores, and the vectors of the queries.
constexpr int64_t together_scratch_size(int64_t dim) {
  return kTogetherRows * 8 + kRowQueries * (kTogetherRows + dim) * 4;
}

constexpr int64_t order_scratch_size(const CatalogView& catalog, int64_t num_queries, int64_t k) {
  if (catalog.codes.order != nullptr) return num_ordered_candidates(catalog, k) * kBytesPerCandidate;
  return num_queries == 1 ? 0 : together_scratch_size(catalog.dim);
}

// num_queries > 0; num_vectors: of all queries together.
constexpr int64_t score_topk_scratch_size(const CatalogView& catalog, int64_t num_queries, int64_t num_vectors,
                                          int64_t k) {
  const int64_t candidates = max_candidates(num_queries, k) + kTouchedCandidates;
  return kBytesPerScan + order_scratch_size(catalog, num_queries, k) +
         num_queries * (kBytesPerQuery + candidates * kBytesPerCandidate) + num_vectors * kBytesPerVector;
}

// Scores listed rows instead of scanning codes: sets best, topk_rows_room() of them at most, in any order and the k
// best among them, and num_best of each query (0 when it begins), as ScoreTopkFn does where `allowed` has those rows
// alone. Of a query it reads vectors, weights, num_interests, temperature, exclude and k; all queries have weights or
// none has, and all the same k. There are at most kRowQueries of them, and rows are strictly increasing, at most
// kMaxScanRows. scratch: topk_rows_scratch_size() bytes, 64-byte aligned.
using TopkRowsFn = void(const CatalogView& catalog, const int64_t* rows, int64_t num_rows, TopkQuery* queries,
                        int64_t num_queries, void* scratch);

// Room of `best` there: a few more than k may be left, which whoever sorts them tells faster from the k best.
constexpr int64_t topk_rows_room(int64_t num_rows, int64_t k) {
  const int64_t room = k + k / 8 + 16;
  return num_rows < room ? num_rows : room;
}

constexpr int64_t row_scores_stride(int64_t num_rows) { return divide_up(num_rows, kGroupRows) * kGroupRows; }

constexpr int64_t topk_rows_scratch_size(int64_t num_queries, int64_t num_rows, int64_t dim) {
  return num_queries * row_scores_stride(num_rows) * 4 + kRowQueries * dim * 4 +
         (row_scores_stride(num_rows) + kGroupRows) * kBytesPerCandidate;
}

// The score of one row x with bias b, before its one rounding to float32. vectors, weights, num_interests, temperature
// as in TopkQuery. This, not the scan, is what decides: the same bits on every ISA.
using ExactScoreFn = double(const float* vectors, const float* weights, int64_t num_interests, double temperature,
                            const float* x, float b, int64_t dim);

}  // namespace lsif
