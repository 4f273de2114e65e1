// The CUDA side of the kernel contracts                                                          (docs/cuda.md)
//
// A launcher computes what its kernel's header specifies, with the same parameters: the structs are in host memory; all
// pointers in them and in the arguments are to device memory. It only enqueues work on `stream`: it allocates nothing,
// waits for nothing and checks no values. It returns the error of the launch itself; cudaSuccess means that the work
// was accepted, not that it is done.
//
// Where a CPU kernel takes one sequence, a launcher takes a batch: `offsets` [batch + 1] in device memory; sequence b
// has rows offsets[b] .. offsets[b + 1] - 1. Sums are float32 in an order that depends only on the sequence, so results
// are the same in every run and any batch. They agree with the CPU's within the contracts' bounds; they are bit-equal
// only where stated below.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/attention.h"
#include "kernels/embedding.h"
#include "kernels/interest_fusion.h"
#include "kernels/interest_pooling.h"
#include "kernels/layer_norm.h"
#include "kernels/linear.h"
#include "kernels/score_topk.h"

namespace lsif::cuda {

// Bit-equal to the CPU kernel.
cudaError_t embedding(const EmbeddingParams& params, const int64_t* item, const int64_t* action, int64_t num_rows,
                      float* y, int64_t y_stride, cudaStream_t stream);

cudaError_t layer_norm(const LayerNormParams& params, const float* x, int64_t x_stride, const float* gate,
                       int64_t gate_stride, float* y, int64_t y_stride, int64_t num_rows, cudaStream_t stream);

// Same layouts as lsif::pack_linear and pack_linear_bf16, from weights in device memory.
cudaError_t pack_linear(const float* weight, int64_t in_dim, int64_t out_dim, float* packed, cudaStream_t stream);
cudaError_t pack_linear_bf16(const float* weight, int64_t in_dim, int64_t out_dim, uint16_t* packed,
                             cudaStream_t stream);

// Bit-equal to the CPU kernel for kIdentity and kRelu in float32. bfloat16 uses matrix instructions; its bound assumes
// that sums of 16 products have an error of at most 2^-23 of the largest, per term.
cudaError_t linear(const LinearParams& params, const float* x, int64_t x_stride, const float* residual,
                   int64_t residual_stride, float* y, int64_t y_stride, int64_t num_rows, cudaStream_t stream);

// input holds the rows of all sequences; input.seq_len = offsets[batch]. Writes every row of y. With bf16, which uses
// matrix instructions, a row's bits depend on its place in the sequence; the bound assumes what linear's does, and
// head_dim above 128 returns cudaErrorInvalidValue.
cudaError_t attention(const AttentionParams& params, const AttentionInput& input, const int64_t* offsets, int64_t batch,
                      float* y, int64_t y_stride, cudaStream_t stream);

constexpr int64_t interest_pooling_scratch_size(const InterestPoolingParams& params, int64_t total) {
  return total * (params.hidden.out_dim + params.logits.out_dim);
}

// x, times: [total] rows of all sequences, total = offsets[batch]; newest_times: [batch], or null: the time of a
// sequence's last event. Only the newest most_events of a sequence are pooled. y: [batch, num_interests, dim]; scratch:
// interest_pooling_scratch_size() floats.
cudaError_t interest_pooling(const InterestPoolingParams& params, const float* x, int64_t x_stride,
                             const int64_t* times, const int64_t* newest_times, const int64_t* offsets, int64_t batch,
                             int64_t total, float* y, float* scratch, cudaStream_t stream,
                             int64_t most_events = INT64_MAX);

constexpr int64_t interest_fusion_scratch_size(const InterestFusionParams& params, int64_t batch) {
  return batch * (params.hidden.in_dim + params.hidden.out_dim);
}

// interests: [batch, num_interests, dim]; gap, length: [batch]; weights: [batch, num_interests]; fused: [batch, dim];
// scratch: interest_fusion_scratch_size() floats.
cudaError_t interest_fusion(const InterestFusionParams& params, const float* interests, const float* gap,
                            const float* length, int64_t batch, float* weights, float* fused, float* scratch,
                            cudaStream_t stream);

// Histories of events, concatenated, for the steps of engine/cuda_encode.h between the kernels above.
struct Histories {
  const int64_t* offsets;  // [batch + 1]
  const int64_t* times;    // [total], or null: all unknown
  const int64_t* now;      // [batch], or null: all unknown
  int64_t batch;
  int64_t total;
};

// The time each event is queried at: that of its successor; for the last event, now or, if that is unknown, its own
// time. times must not be null.
cudaError_t query_times(const Histories& histories, int64_t* query_times, cudaStream_t stream);

struct InterestParts {
  const float* long_interests;   // [batch, num_long, dim]
  const float* short_interests;  // [batch, num_short, dim]
  const float* states;           // [total, dim]
  int64_t num_long;
  int64_t num_short;
  int64_t dim;
};

// interests: [batch, num_long + num_short + 1, dim], the last being the state of the newest event, or 0 if there is
// none.
cudaError_t gather_interests(const Histories& histories, const InterestParts& parts, float* interests,
                             cudaStream_t stream);

// gap, length: [batch], the other inputs of the fusion (docs/model.md, 4); the gap is 0 if a time is unknown.
cudaError_t fusion_context(const Histories& histories, float* gap, float* length, cudaStream_t stream);

// Writes zeros for histories without events.  weights: [batch, num_interests]; fused: [batch, dim]
cudaError_t clear_empty(const Histories& histories, float* weights, int64_t num_interests, float* fused, int64_t dim,
                        cudaStream_t stream);

// Which rows must not be returned.
struct Filters {
  const int64_t* exclude_items = nullptr;    // query b's are items[offsets[b]] .. items[offsets[b + 1] - 1], ascending
  const int64_t* exclude_offsets = nullptr;  // [batch + 1], or null: nothing is excluded
  const uint64_t* const* allowed = nullptr;  // [batch] bitmaps of rows (TopkQuery), entries may be null; or null: all
};

// Bytes of workspace score_topk needs; reads only the sizes in `queries`.
int64_t score_topk_workspace_size(const CatalogView& catalog, const ScoreQueries& queries, int64_t k);

// The contract of kernels/score_topk.h. catalog.codes: written by engine/codes.h and copied to the device, groups and
// order 16-byte aligned; cells and regions are not read. Any k >= 1; num_items < 2^32. workspace: 16-byte aligned. For
// each query writes the counts[b] = min(k, rows that may be returned) best rows.
//   scores [batch, k], 0 past counts (a zero is +0); indices [batch, k], -1 past counts; counts [batch]
// Bit-equal to the CPU without weights. With weights the float64 score, before its one rounding to float32, differs as
// much as exp and log of the two platforms, by about 2^-52 of its larger term. Scores beyond float32 are returned as
// infinities.
cudaError_t score_topk(const CatalogView& catalog, const ScoreQueries& queries, const Filters& filters, int64_t k,
                       void* workspace, float* scores, int64_t* indices, int64_t* counts, cudaStream_t stream);

// scores[b][i] is the exact score of row items[b][i] for query b; items, scores: [batch, num_candidates].
cudaError_t score_items(const CatalogView& catalog, const ScoreQueries& queries, const int64_t* items,
                        int64_t num_candidates, float* scores, cudaStream_t stream);

}  // namespace lsif::cuda
