// The table of kernels of one instruction set. variant.cpp is compiled once per ISA and fills one table; dispatch.cpp
// chooses one at run time.
#pragma once

#include "kernels/attention.h"
#include "kernels/cpu/isas.h"
#include "kernels/embedding.h"
#include "kernels/interest_fusion.h"
#include "kernels/interest_pooling.h"
#include "kernels/layer_norm.h"
#include "kernels/linear.h"
#include "kernels/score_topk.h"

namespace lsif::cpu {

struct KernelTable {
  const char* isa;  // one of LSIF_ISAS
  EmbeddingFn* embedding;
  LayerNormFn* layer_norm;
  LinearFn* linear;
  AttentionFn* attention;
  InterestPoolingFn* interest_pooling;
  InterestFusionFn* interest_fusion;
  ScoreTopkFn* score_topk;
  TopkRowsFn* topk_rows;  // null: always scan codes
  ExactScoreFn* exact_score;
};

// Defined by variant.cpp.
#define LSIF_DECLARE(name) const KernelTable& name##_kernels();
LSIF_ISAS(LSIF_DECLARE)
#undef LSIF_DECLARE

}  // namespace lsif::cpu
