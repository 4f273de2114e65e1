// The table of kernels one instruction set provides. variant.cpp is compiled once per ISA and fills one table;
// dispatch.cpp picks one at start.
#pragma once

#include "kernels/attention.h"
#include "kernels/embedding.h"
#include "kernels/interest_fusion.h"
#include "kernels/interest_pooling.h"
#include "kernels/layer_norm.h"
#include "kernels/linear.h"
#include "kernels/score_topk.h"

namespace lsif::cpu {

struct KernelTable {
  const char* isa;  // "scalar", "avx2", "avx2vnni", "avx512", "avx512bf16", "neon"
  EmbeddingFn* embedding;
  LayerNormFn* layer_norm;
  LinearFn* linear;
  AttentionFn* attention;
  InterestPoolingFn* interest_pooling;
  InterestFusionFn* interest_fusion;
  ScoreTopkFn* score_topk;
  TopkRowsFn* topk_rows;  // or null: everything is scanned
  ExactScoreFn* exact_score;
};

// One per compiled ISA, defined by variant.cpp.
const KernelTable& scalar_kernels();
#if defined(LSIF_HAVE_AVX2)
const KernelTable& avx2_kernels();
#endif
#if defined(LSIF_HAVE_AVX2VNNI)
const KernelTable& avx2vnni_kernels();
#endif
#if defined(LSIF_HAVE_AVX512)
const KernelTable& avx512_kernels();
#endif
#if defined(LSIF_HAVE_AVX512BF16)
const KernelTable& avx512bf16_kernels();
#endif
#if defined(LSIF_HAVE_NEON)
const KernelTable& neon_kernels();
#endif

}  // namespace lsif::cpu
