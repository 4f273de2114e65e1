// Users to whom a filter leaves so few rows that scoring all of them is less work than scanning codes.
#pragma once

#include <cstdint>
#include <span>

#include "engine/excluded.h"
#include "engine/interests.h"
#include "engine/score_topk.h"
#include "engine/scratch.h"

namespace lsif::engine {

// Tells users with few allowed rows from the others, in memory of `scratch`. `request` has passed its checks.
class FewRows {
 public:
  FewRows(const CatalogView& catalog, const ScoreTopkRequest& request, Scratch& scratch);

  // Users of the request, ascending, who are to be answered by a scan.
  std::span<const int64_t> others() const { return {others_, static_cast<size_t>(num_others_)}; }

  // Writes what score_topk() writes for all but those. Refuses a result whose score is beyond float32.
  void answer(const Interests& interests, const Excluded& excluded, ExactScoreFn* exact_score, int threads,
              float* scores, int64_t* indices, int64_t* counts) const;

 private:
  // Users one after another whose filter is the same.
  struct Group {
    const uint64_t* allowed;
    int64_t num_rows;    // that it allows
    int64_t first_user;  // places in users_
    int64_t last_user;
  };

  // Scores of all rows, found[user of the group, row], as they are numbered; rows: room for as many.
  void score(const Group& group, const Interests& interests, ExactScoreFn* exact_score, int64_t* rows,
             ScoredItem* found) const;

  const CatalogView& catalog_;
  const ScoreTopkRequest& request_;
  int64_t* users_;  // with few rows
  Group* groups_;
  int64_t num_groups_ = 0;
  int64_t* others_;
  int64_t num_others_ = 0;
};

}  // namespace lsif::engine
