// Runs the blocks over one history, from embeddings to the states before the last norm            (docs/model.md, 2)
#pragma once

#include <cstdint>

#include "engine/model.h"
#include "engine/scratch.h"

namespace lsif::engine {

// The newest events of a history, oldest first, as many as the outputs depend on.
struct BlockRows {
  const int64_t* items;
  const int64_t* times;        // null: all unknown
  const int64_t* query_times;  // the time each position is queried at; null: all unknown
  int64_t count;
  int64_t num_states;  // number of newest states wanted
};

// Of `seq_len` events, how many of the newest the last `num_states` states depend on.
int64_t num_block_rows(const ModelConfig& config, int64_t seq_len, int64_t num_states);

// x: [count, dim], contiguous, the rows' embeddings; on return its last num_states rows are states, the others are
// unspecified.
void run_blocks(const Model& model, const BlockRows& rows, float* x, Scratch& scratch);

// The attention of an absorbed layer. normed: [num_rows, dim], contiguous, the normalised rows of the queries, which
// are the last rows of `keys`. keys: k and v are normalised rows, q is ignored. y: [num_rows, dim], contiguous; may be
// `normed`.
void attend_absorbed(const ModelConfig& config, const Layer& layer, const float* normed, AttentionInput keys,
                     int64_t num_rows, float* y, Scratch& scratch);

// The rest of a layer, after attention: x becomes the layer's result. mixed: [num_rows, dim], attention's output,
// overwritten. gate: for hstu, with gate_stride. hidden: [num_rows, ffn_dim], transformer's scratch.
void finish_layer(const ModelConfig& config, const Layer& layer, float* mixed, const float* gate, int64_t gate_stride,
                  float* hidden, float* x, int64_t num_rows);

}  // namespace lsif::engine
