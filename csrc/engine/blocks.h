// The blocks of one history, from embeddings to states before the last norm              (docs/model.md, 2)
#pragma once

#include <cstdint>

#include "engine/model.h"
#include "engine/scratch.h"

namespace lsif::engine {

// The newest events of a history, oldest first: those its outputs depend on.
struct BlockRows {
  const int64_t* items;
  const int64_t* times;        // or null: all unknown
  const int64_t* query_times;  // the times the positions are asked about; or null: all unknown
  int64_t count;
  int64_t num_states;  // how many of the newest states are wanted
};

// How many of the newest of `seq_len` events the last `num_states` states depend on.
int64_t num_block_rows(const ModelConfig& config, int64_t seq_len, int64_t num_states);

// x: [count, dim], the rows' embeddings, contiguous; afterwards its last num_states rows are states, the others
// anything.
void run_blocks(const Model& model, const BlockRows& rows, float* x, Scratch& scratch);

}  // namespace lsif::engine
