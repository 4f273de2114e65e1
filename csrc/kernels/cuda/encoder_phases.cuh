// Where a block's time goes                                            (LSIF_CUDA_PHASES; bench/gpu_encode.py prints
// it)
#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/encode_users.h"

namespace lsif::cuda {

enum class Phase { kEmbed, kLongPooling, kNorm, kProject, kAttention, kFinish, kShortPooling, kFusion };

#if defined(LSIF_CUDA_PHASES)

namespace {

__device__ Phases encoder_phases;

}  // namespace

__device__ inline void start_phases() {
  if (blockIdx.x != 0 || threadIdx.x != 0) return;
  encoder_phases.count = 0;
  encoder_phases.start = clock64();
}

// May be called by all threads; the first thread's clock counts, which has waited for the others where a barrier is.
__device__ inline void end_phase(Phase phase) {
  if (blockIdx.x != 0 || threadIdx.x != 0 || encoder_phases.count >= kMostPhases) return;
  encoder_phases.ends[encoder_phases.count] = clock64();
  encoder_phases.phases[encoder_phases.count++] = static_cast<int>(phase);
}

#else

__device__ inline void start_phases() {}
__device__ inline void end_phase(Phase) {}

#endif

}  // namespace lsif::cuda
