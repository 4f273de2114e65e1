// Compiled once per ISA, with that ISA's compiler flags and LSIF_ISA set to its name. Everything is in an unnamed
// namespace inside namespace LSIF_ISA, and no std:: function template may be used here: the linker must never keep an
// instance compiled for AVX-512 as the shared copy (tests/test_build.py checks the symbols).
#if !defined(LSIF_SIMD_AVX2VNNI)
#include "kernels/cpu/attention.inl.h"
#include "kernels/cpu/embedding.inl.h"
#include "kernels/cpu/interest_fusion.inl.h"
#include "kernels/cpu/interest_pooling.inl.h"
#include "kernels/cpu/layer_norm.inl.h"
#include "kernels/cpu/linear.inl.h"
#endif
#include "kernels/cpu/score_topk.inl.h"
#include "kernels/cpu/table.h"
#include "kernels/cpu/topk_rows.inl.h"

#define LSIF_STRING_(x) #x
#define LSIF_STRING(x) LSIF_STRING_(x)
#define LSIF_JOIN_(a, b) a##b
#define LSIF_JOIN(a, b) LSIF_JOIN_(a, b)

namespace lsif::cpu {

#if defined(LSIF_SIMD_AVX2VNNI)
// Only score_topk multiplies bytes, and topk_rows and exact_score share its code; all other kernels are those of AVX2.
const KernelTable& LSIF_JOIN(LSIF_ISA, _kernels)() {
  static const KernelTable table = [] {
    KernelTable changed = avx2_kernels();
    changed.isa = LSIF_STRING(LSIF_ISA);
    changed.score_topk = LSIF_ISA::score_topk;
    changed.topk_rows = LSIF_ISA::topk_rows;
    changed.exact_score = LSIF_ISA::exact_score;
    return changed;
  }();
  return table;
}
#else
const KernelTable& LSIF_JOIN(LSIF_ISA, _kernels)() {
  static constexpr KernelTable table = {
      LSIF_STRING(LSIF_ISA), LSIF_ISA::embedding,        LSIF_ISA::layer_norm,      LSIF_ISA::linear,
      LSIF_ISA::attention,   LSIF_ISA::interest_pooling, LSIF_ISA::interest_fusion, LSIF_ISA::score_topk,
      LSIF_ISA::topk_rows,   LSIF_ISA::exact_score,
  };
  return table;
}
#endif

}  // namespace lsif::cpu
