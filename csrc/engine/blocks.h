// The blocks of one history, from embeddings to states before the last norm, and their parts      (docs/model.md, 2)
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

// The attention of an absorbed layer. normed: [num_rows, dim], contiguous, the rows of the queries, which are the last
// ones of `keys`; keys: k and v are normalised rows, q is ignored. y: [num_rows, dim], contiguous; may be `normed`.
void attend_absorbed(const ModelConfig& config, const Layer& layer, const float* normed, AttentionInput keys,
                     int64_t num_rows, float* y, Scratch& scratch);

// What follows the attention: x becomes the layer's result. mixed: [num_rows, dim], the attention's, which is
// overwritten; gate: hstu's, with gate_stride; hidden: [num_rows, ffn_dim], transformer's.
void finish_layer(const ModelConfig& config, const Layer& layer, float* mixed, const float* gate, int64_t gate_stride,
                  float* hidden, float* x, int64_t num_rows);

}  // namespace lsif::engine
