// Many queries with one interest each, eight per tile. This is limited by the arithmetic of the bounds, about eight
// instructions per row and query.
#pragma once

#include "kernels/cuda/topk_visit.cuh"

namespace lsif::cuda {
namespace {

// How a warp works. For up to kSteps steps of dimensions, the rows of kGroups groups stay in registers and all queries
// of a block in shared memory, so that codes are read and unpacked once for all queries. kSteps = 0: any number of
// steps; both are read again for every kTiles tiles.
template <int kTheGroups, int kTheSteps, int kTheTiles>
struct Shape {
  static constexpr int kGroups = kTheGroups;
  static constexpr int kSteps = kTheSteps;
  static constexpr int kTiles = kTheTiles;  // summed at once
};

constexpr int kTilesOfBlock = 32;
constexpr int64_t kTileBytes = 32 << 10;  // of shared memory

// A query as a column of a tile.
struct alignas(16) Column {
  float scale;
  float norm;
  float missed;
  float bias_factor;
  float threshold;
};

// A float32 whose last digit has the value 1: nearby integers differ from it in their bits by their distance.
constexpr float kWhole = 0x1.8p23f;
constexpr int32_t kWholeBits = 0x4b400000;

template <int kSteps>
constexpr int64_t tile_bytes() {
  constexpr int64_t kOfColumn = sizeof(Column) + sizeof(int4) / 2;
  return kSteps * kWarp * static_cast<int64_t>(sizeof(MmaB)) + kMmaColumns * kOfColumn;
}

// The tiles of a block, in shared memory.
template <int kSteps>
struct Tiles {
  MmaB* codes;  // [num_tiles, kSteps, 32], for each lane
  Column* columns;
  int4* starts;  // [num_tiles, 4], of a lane's two columns, twice, in the layout of sums

  __device__ explicit Tiles(int num_tiles)
      : codes(reinterpret_cast<MmaB*>(dynamic_shared())),
        columns(reinterpret_cast<Column*>(codes + num_tiles * kSteps * kWarp)),
        starts(reinterpret_cast<int4*>(columns + num_tiles * kMmaColumns)) {}

  // By all threads of the block. Columns past the last query are zeros.
  __device__ void fill(const Search& s, int64_t first_query, int num_tiles) {
    for (int i = static_cast<int>(threadIdx.x); i < num_tiles * kMmaColumns; i += kThreads) {
      const int64_t query = first_query + i;
      Column column = {0, 0, 0, 0, kInfinity};
      int32_t start = 0;
      if (query < s.num_vectors) {
        const VectorBound& vector = s.vectors[query];
        const QueryBound& bound = s.bounds[query];
        // With few dimensions, sums can be read directly as floats: |p . c| <= 8 * 127 * 256 is far below 2^22.
        start = kSteps == 0 ? vector.start : vector.start + kWholeBits;
        column = {vector.scale, vector.norm, vector.missed, bound.bias_factor, bound.threshold};
      }
      columns[i] = column;
      int32_t* starts_of_two = reinterpret_cast<int32_t*>(starts + i / 2);
      starts_of_two[i % 2] = starts_of_two[2 + i % 2] = start;
    }
    const int num_steps = static_cast<int>(code_stride(s.catalog.dim)) / kMmaDims;
    for (int i = static_cast<int>(threadIdx.x); i < num_tiles * kSteps * kWarp; i += kThreads) {
      const int lane = i % kWarp;
      constexpr int kEach = kSteps == 0 ? 1 : kSteps;
      const int step = i / kWarp % kEach;
      const int64_t query = first_query + i / kWarp / kEach * kMmaColumns + lane / 4;
      const bool is_there = step < num_steps && query < s.num_vectors;
      codes[i] = is_there ? read_query(s.codes + query * code_stride(s.catalog.dim), step, lane) : MmaB{};
    }
    __syncthreads();
  }
};

// The groups that a warp processes together.
template <typename Shape>
struct Groups {
  int64_t first;  // part
  RowBounds rows[Shape::kGroups];
  MmaA held[Shape::kGroups][Shape::kSteps == 0 ? 1 : Shape::kSteps];
};

template <typename What, typename Shape>
__device__ Groups<Shape> read_groups(const Search& s, int64_t first, const Lane& me) {
  const int num_lines = static_cast<int>(group_lines(s.catalog.dim)) - 1;
  Groups<Shape> groups;
  groups.first = first;
#pragma unroll
  for (int group = 0; group < Shape::kGroups; ++group) {
    const uint8_t* line = group_of<What>(s, first + group);
    groups.rows[group] = row_bounds(s.units, read_side(line, me.g));
#pragma unroll
    for (int step = 0; step < Shape::kSteps; ++step) {
      groups.held[group][step] = computed(unpack(read_pair(line + kLineBytes, num_lines, step, me.lane)));
    }
  }
  return groups;
}

// Products of the groups with kTiles tiles from `tile` on. first_query: the first of the block.
template <typename What, typename Shape>
__device__ void multiply_tiles(const Search& s, const Groups<Shape>& groups, const Tiles<Shape::kSteps>& tiles,
                               int tile, int64_t first_query, const Lane& me,
                               MmaC (&sums)[Shape::kTiles][Shape::kGroups]) {
  __syncwarp();  // the matrix instruction needs the warp converged, and it may have diverged
#pragma unroll
  for (int i = 0; i < Shape::kTiles; ++i) {
    const int4 both = tiles.starts[(tile + i) * (kMmaColumns / 2) + me.t];
    const MmaC start = {{both.x, both.y, both.z, both.w}};
#pragma unroll
    for (int group = 0; group < Shape::kGroups; ++group) sums[i][group] = start;
  }
  if constexpr (Shape::kSteps > 0) {
    static_assert(Shape::kTiles == 1);
#pragma unroll
    for (int step = 0; step < Shape::kSteps; ++step) {
      const MmaB query = tiles.codes[(tile * Shape::kSteps + step) * kWarp + me.lane];
#pragma unroll
      for (int group = 0; group < Shape::kGroups; ++group) {
        sums[0][group] = multiply_add(sums[0][group], groups.held[group][step], query);
      }
    }
  } else {
    const int num_lines = static_cast<int>(group_lines(s.catalog.dim)) - 1;
    const int num_steps = static_cast<int>(code_stride(s.catalog.dim)) / kMmaDims;
    const int64_t stride = code_stride(s.catalog.dim);
    const int8_t* codes[Shape::kTiles];
    const uint8_t* lines[Shape::kGroups];
    for (int i = 0; i < Shape::kTiles; ++i) {
      const int64_t query = first_query + (tile + i) * kMmaColumns + me.g;
      codes[i] = s.codes + smaller(query, s.num_vectors - 1) * stride;
    }
    for (int i = 0; i < Shape::kGroups; ++i) lines[i] = group_of<What>(s, groups.first + i) + kLineBytes;
#pragma unroll 1
    for (int step = 0; step < num_steps; ++step) {
      MmaA rows[Shape::kGroups];
#pragma unroll
      for (int i = 0; i < Shape::kGroups; ++i) rows[i] = unpack(read_pair(lines[i], num_lines, step, me.lane));
#pragma unroll
      for (int i = 0; i < Shape::kTiles; ++i) {
        const MmaB query = read_query(codes[i], step, me.lane);
#pragma unroll
        for (int group = 0; group < Shape::kGroups; ++group) {
          sums[i][group] = multiply_add(sums[i][group], rows[group], query);
        }
      }
    }
  }
}

template <bool kIsBound, int kSteps>
__device__ float value_of(const Column& column, const RowBounds& rows, int r, int32_t sum) {
  const float dot = kSteps == 0 ? static_cast<float>(sum) : __uint_as_float(static_cast<uint32_t>(sum)) - kWhole;
  VectorBound vector = {};
  vector.scale = column.scale;
  vector.norm = column.norm;
  vector.missed = column.missed;
  const float value = unscaled_bound<kIsBound>(vector, rows, r, dot);
  return fmaf(rows.scale[r], value, rows.bias[r] * column.bias_factor);
}

// values[index] for n values, a power of two, without dynamic addressing.
template <int n>
__device__ float pick(const float (&values)[n], int index) {
  if constexpr (n == 1) {
    return values[0];
  } else {
    float half[n / 2];
#pragma unroll
    for (int i = 0; i < n / 2; ++i) half[i] = (index & n / 2) != 0 ? values[n / 2 + i] : values[i];
    return pick(half, index);
  }
}

// Handles the products with one tile; first_query is the first of the tile.
template <typename What, typename Shape>
__device__ void finish_tile(const Search& s, const Groups<Shape>& groups, const Column* columns, int64_t first_query,
                            const MmaC (&sums)[Shape::kGroups], const Lane& me, Stash& stash) {
  const Column own[2] = {columns[2 * me.t], columns[2 * me.t + 1]};
  constexpr int kValues = 4 * Shape::kGroups;
  float values[kValues];  // in the layout of sums: 2 rows with 2 columns each
  unsigned kept = 0;
#pragma unroll
  for (int i = 0; i < kValues; ++i) {
    values[i] =
        value_of<What::kIsBound, Shape::kSteps>(own[i % 2], groups.rows[i / 4], i / 2 % 2, sums[i / 4].regs[i % 4]);
    if (What::kIsBound && !(values[i] < own[i % 2].threshold)) kept |= 1u << i;  // NaN is kept
  }
  if constexpr (What::kIsBound) {
    while (const unsigned those = __ballot_sync(kAllLanes, kept != 0)) {
      const int i = kept == 0 ? 0 : __ffs(static_cast<int>(kept)) - 1;
      const int64_t slot = (groups.first + i / 4) * kGroupRows + 2 * me.g + i / 2 % 2;
      stash.push(s, those, {slot, static_cast<uint32_t>(first_query) + 2 * me.t + i % 2, pick(values, i)});
      kept &= kept - 1;
    }
  } else {
#pragma unroll
    for (int group = 0; group < Shape::kGroups; ++group) {
      for (int c = 0; c < 2; ++c) {
        const float estimate[2] = {values[4 * group + c], values[4 * group + 2 + c]};
        sample_rows(s, first_query + 2 * me.t + c, groups.first + group, estimate, me.g);
      }
    }
  }
}

// A block's work: some tiles times some groups, which its warps share.
struct TileTasks {
  int tiles;       // per block
  int64_t chunks;  // chunks of tiles
  int64_t groups;  // per block
};

template <typename What, typename Shape>
__global__ void __launch_bounds__(kThreads, 4) visit_tiles_kernel(Search s, TileTasks tasks) {
  const Lane me = this_lane();
  const int64_t block = blockIdx.x;
  const int64_t first_query = block % tasks.chunks * tasks.tiles * kMmaColumns;
  const int64_t first = block / tasks.chunks * tasks.groups;
  const int64_t last = smaller(first + tasks.groups, What::parts(s));
  Tiles<Shape::kSteps> tiles(tasks.tiles);
  tiles.fill(s, first_query, tasks.tiles);
  Stash stash;
  for (int64_t i = first + threadIdx.x / kWarp * Shape::kGroups; i < last; i += kWarps * Shape::kGroups) {
    const Groups<Shape> groups = read_groups<What, Shape>(s, i, me);
    for (int tile = 0; tile < tasks.tiles; tile += Shape::kTiles) {
      MmaC sums[Shape::kTiles][Shape::kGroups];
      multiply_tiles<What>(s, groups, tiles, tile, first_query, me, sums);
#pragma unroll
      for (int k = 0; k < Shape::kTiles; ++k) {
        const int place = (tile + k) * kMmaColumns;
        finish_tile<What>(s, groups, tiles.columns + place, first_query + place, sums[k], me, stash);
      }
    }
  }
  stash.flush(s);
}

template <typename What, typename Shape>
cudaError_t visit_in_shape(const Search& s, cudaStream_t stream) {
  const int64_t all_tiles = divide_up(s.num_vectors, Shape::kTiles * kMmaColumns) * Shape::kTiles;
  const int64_t room =
      Shape::kSteps == 0 ? Shape::kTiles : smaller(kTilesOfBlock, kTileBytes / tile_bytes<Shape::kSteps>());
  TileTasks tasks = {};
  tasks.chunks = divide_up(all_tiles, room);
  tasks.tiles = static_cast<int>(divide_up(all_tiles, tasks.chunks));
  constexpr int64_t kRound = kWarps * Shape::kGroups;
  const int64_t parts = What::parts(s);
  tasks.groups = divide_up(divide_up(parts, kRound), larger(1, kScanBlocks / tasks.chunks)) * kRound;
  const int64_t blocks = divide_up(parts, tasks.groups) * tasks.chunks;
  return launch_shared(visit_tiles_kernel<What, Shape>, blocks, kThreads, tasks.tiles * tile_bytes<Shape::kSteps>(),
                       stream, s, tasks);
}

template <typename What>
cudaError_t visit_tiles(const Search& s, cudaStream_t stream) {
  const int64_t steps = code_stride(s.catalog.dim) / kMmaDims;
  if (steps <= 2) return visit_in_shape<What, Shape<4, 2, 1>>(s, stream);
  if (steps <= 4) return visit_in_shape<What, Shape<2, 4, 1>>(s, stream);
  if (steps <= 8) return visit_in_shape<What, Shape<1, 8, 1>>(s, stream);
  return visit_in_shape<What, Shape<2, 0, 4>>(s, stream);
}

}  // namespace
}  // namespace lsif::cuda
