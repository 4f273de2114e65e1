// One query with one interest. This is limited by memory bandwidth, so a warp loads the next groups before it processes
// the current ones.
#pragma once

#include "kernels/cuda/topk_lone.cuh"

namespace lsif::cuda {
namespace {

constexpr int kGroupsOfOne = 4;  // one for each lane of a row
constexpr int kStepsOfOne = 2;

// What a warp loads at once: 64 dimensions of four groups, and the side data of group t.
struct Piece {
  uint2 rows[kGroupsOfOne][kStepsOfOne];
  SideBytes side;
};

// A warp's position: some dimensions of four groups. There are fewer than 2^28 parts.
template <bool kIsShort>
struct Place {
  int quad;
  int piece;

  __device__ void advance(int warps, int pieces) {
    if (!kIsShort && ++piece < pieces) return;
    piece = 0;
    quad += warps;
  }
};

__host__ __device__ constexpr int64_t num_quads(int64_t parts) { return divide_up(parts, kGroupsOfOne); }

// The four groups of a quad: adjacent, or as far apart as possible.
template <typename What>
struct Quad {
  const uint8_t* first;
  int64_t stride;  // in bytes
  int last;        // groups past it are replaced by it

  __device__ Quad(const Search& s, int quad) {
    const int64_t size = What::step(s) * group_bytes(s.catalog.dim);
    const int64_t parts = What::parts(s);
    if constexpr (What::kIsSpread) {
      first = s.catalog.codes.groups + quad * size;
      stride = num_quads(parts) * size;
      last = static_cast<int>((parts - 1 - quad) / num_quads(parts));
    } else {
      first = s.catalog.codes.groups + quad * (size * kGroupsOfOne);
      stride = static_cast<int>(size);
      last = min(static_cast<int>(parts) - quad * kGroupsOfOne, kGroupsOfOne) - 1;
    }
  }

  __device__ const uint8_t* codes(int group) const {
    if constexpr (What::kIsSpread) return first + min(group, last) * stride;
    return first + min(group, last) * static_cast<int>(stride);
  }

  __device__ static int64_t part(const Search& s, int quad, int group) {
    if constexpr (What::kIsSpread) return quad + group * num_quads(What::parts(s));
    return static_cast<int64_t>(quad) * kGroupsOfOne + group;
  }
};

template <typename What>
__device__ Piece read_piece(const Search& s, int quad, int piece, const Lane& me) {
  const int num_lines = static_cast<int>(group_lines(s.catalog.dim)) - 1;
  const Quad<What> those(s, quad);
  Piece read;
#pragma unroll
  for (int group = 0; group < kGroupsOfOne; ++group) {
    const uint8_t* lines = those.codes(group) + kLineBytes;
#pragma unroll
    for (int i = 0; i < kStepsOfOne; ++i) {
      read.rows[group][i] = read_pair(lines, num_lines, piece * kStepsOfOne + i, me.lane);
    }
  }
  read.side = read_side(those.codes(me.t), me.g);
  return read;
}

// All columns of the product are the same query, so all four lanes of a row have its sum; each keeps that of a
// different group.
__device__ int own_sum(const MmaC (&sums)[kGroupsOfOne], int r, int t) {
  const int low = t % 2 == 0 ? sums[0].regs[2 * r] : sums[1].regs[2 * r];
  const int high = t % 2 == 0 ? sums[2].regs[2 * r] : sums[3].regs[2 * r];
  return t < 2 ? low : high;
}

// Blocks per multiprocessor that the registers allow.
constexpr int blocks_of_processor(bool is_short) { return is_short ? 5 : 4; }

// kIsShort: at most 64 dimensions, one piece per quad.
template <typename What, bool kIsShort>
__global__ void __launch_bounds__(kThreads, What::kIsSpread ? blocks_of_processor(kIsShort) : 0)
    visit_one_kernel(Search s) {
  const Lane me = this_lane();
  const int warps = static_cast<int>(gridDim.x) * kWarps;
  const int quads = static_cast<int>(num_quads(What::parts(s)));
  const int num_steps = static_cast<int>(code_stride(s.catalog.dim)) / kMmaDims;
  const int pieces = kIsShort ? 1 : static_cast<int>(divide_up(num_steps, kStepsOfOne));
  const int warp = static_cast<int>(What::kIsSpread ? threadIdx.x / kWarp * gridDim.x + blockIdx.x
                                                    : blockIdx.x * kWarps + threadIdx.x / kWarp);
  Place<kIsShort> now = {warp, 0};
  Place<kIsShort> ahead = now;
  Piece read[2];
  for (Piece& piece : read) {
    if (ahead.quad < quads) piece = read_piece<What>(s, ahead.quad, ahead.piece, me);
    ahead.advance(warps, pieces);
  }
  const OneQuery one = What::query(s);
  const VectorBound vector = one.vector;
  const MmaC start = {{vector.start, vector.start, vector.start, vector.start}};
  Stash stash;
  Candidate candidate;
  MmaC sums[kGroupsOfOne];
  MmaB query[kStepsOfOne];
  const auto read_query_at = [&](int piece) {
#pragma unroll
    for (int i = 0; i < kStepsOfOne; ++i) {
      const int step = piece * kStepsOfOne + i;
      query[i] = step < num_steps ? read_query(one.codes, step, me.lane) : MmaB{};
    }
  };
  if (kIsShort) read_query_at(0);
  while (now.quad < quads) {
#pragma unroll
    for (Piece& piece : read) {
      if (now.quad >= quads) break;
      if (!kIsShort) read_query_at(now.piece);
      __syncwarp();  // the matrix instruction needs the warp converged, and it may have diverged
#pragma unroll
      for (int group = 0; group < kGroupsOfOne; ++group) {
        if (kIsShort || now.piece == 0) sums[group] = start;
#pragma unroll
        for (int i = 0; i < kStepsOfOne; ++i) {
          sums[group] = multiply_add(sums[group], unpack(piece.rows[group][i]), query[i]);
        }
      }
      const SideBytes side = piece.side;
      if (ahead.quad < quads) piece = read_piece<What>(s, ahead.quad, ahead.piece, me);
      ahead.advance(warps, pieces);
      if (kIsShort || now.piece + 1 == pieces) {
        const RowBounds rows = row_bounds(s.units, side);
        const int64_t part = Quad<What>::part(s, now.quad, me.t);
        float values[2];
        unsigned kept = 0;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const auto dot = static_cast<float>(own_sum(sums, r, me.t));
          const float bound = unscaled_bound<What::kIsBound>(vector, rows, r, dot);
          values[r] = fmaf(rows.scale[r], bound, rows.bias[r] * one.bias_factor);
          if (!(values[r] < one.threshold)) kept |= 1u << r;  // NaN is kept
        }
        if constexpr (What::kIsBound) {
          while (const unsigned those = __ballot_sync(kAllLanes, kept != 0)) {
            const int r = (kept & 1) != 0 ? 0 : 1;
            stash.push(s, those, {part * kGroupRows + 2 * me.g + r, 0, r == 0 ? values[0] : values[1]});
            kept &= kept - 1;
          }
        } else if constexpr (What::kIsLone) {
          candidate.see(s, part, values, me.g);
        } else {
          sample_rows(s, 0, part, values, me.g);
        }
      }
      now.advance(warps, pieces);
    }
  }
  stash.flush(s);
  if constexpr (What::kIsLone && !What::kIsBound) candidate.leave(s);
}

constexpr bool is_short(const Search& s) { return s.catalog.dim <= kStepsOfOne * kMmaDims; }

// As many blocks as run at once: more would run in waves, the last of which is not full.
template <typename What>
int64_t blocks_for_one(const Search& s) {
  const int64_t room = num_processors() * blocks_of_processor(is_short(s));
  const int64_t blocks = smaller(room, divide_up(num_quads(What::parts(s)), kWarps));
  return What::kIsSpread ? smaller(blocks, kMostCandidates) : blocks;  // each block writes one
}

template <typename What>
cudaError_t visit_one(const Search& s, cudaStream_t stream) {
  const int64_t blocks = blocks_for_one<What>(s);
  if constexpr (What::kIsLone) {
    return launch_shared(visit_one_kernel<What, true>, blocks, kThreads, 0, stream, s);
  } else {
    const auto kernel = is_short(s) ? visit_one_kernel<What, true> : visit_one_kernel<What, false>;
    return launch_shared(kernel, blocks, kThreads, 0, stream, s);
  }
}

// Whether to use topk_lone.cuh: the sample's blocks must give enough candidates.
bool is_lone(const Search& s) {
  if (s.num_vectors != 1 || s.queries.weights != nullptr || !is_short(s) || s.k > kMostLoneResults) return false;
  return blocks_for_one<LoneSample>(s) >= kCandidatesPerResult * s.k;
}

cudaError_t keep_rows_of_lone(Search s, cudaStream_t stream) {
  s.num_candidates = blocks_for_one<LoneSample>(s);
  const cudaError_t error = visit_one<LoneSample>(s, stream);
  return error == cudaSuccess ? visit_one<LoneKeep>(s, stream) : error;
}

}  // namespace
}  // namespace lsif::cuda
