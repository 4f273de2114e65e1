// What is said once of ModelConfig's fields (model.h): their names, their limits, which are those of
// python/lsif_sdk/config.py (there num_time_boundaries is at least 1), and the names of their choices.
#pragma once

#include <limits>

#include "engine/model.h"
#include "kernels/score_topk.h"

namespace lsif::engine {

// Calls visit(name, field, least, most) for every field but norm_eps, in order of declaration. Within these limits no
// size that is computed from a config is beyond int64.
template <typename Config, typename Visit>
void for_fields(Config& c, Visit visit) {
  constexpr int64_t kMost = 1 << 20;  // of histories, and of tables that a machine could train
  visit("num_items", c.num_items, 1, std::numeric_limits<int32_t>::max());
  visit("dim", c.dim, 1, kMaxScoreDim);
  visit("num_layers", c.num_layers, 1, 1024);
  visit("num_heads", c.num_heads, 1, kMaxScoreDim);
  visit("block", c.block, 0, 1);
  visit("activation", c.activation, 0, 3);
  visit("ffn_dim", c.ffn_dim, 1, kMost);
  visit("window", c.window, 1, kMost);
  visit("num_long", c.num_long, 0, kMaxScoreInterests - 1);
  visit("num_short", c.num_short, 0, kMaxScoreInterests - 1);
  visit("short_window", c.short_window, 1, kMost);
  visit("pooling_dim", c.pooling_dim, 1, kMaxScoreDim);
  visit("fusion_dim", c.fusion_dim, 1, kMaxScoreDim);
  visit("use_times", c.use_times, 0, 1);
  visit("request_time", c.request_time, 0, 1);
  visit("num_time_boundaries", c.num_time_boundaries, c.use_times ? 1 : 0, kMaxScoreDim);
  visit("num_actions", c.num_actions, 0, kMost);
  visit("repeats", c.repeats, 0, 1);
}

// Other names are refused.
Block block_from(const std::string& name);
Activation activation_from(const std::string& name);

}  // namespace lsif::engine
