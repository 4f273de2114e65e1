// The whole encoder as one op: a pure function of weights and events. It packs the weights at every call; the request
// path object (csrc/bindings) keeps them packed.
#include "engine/encode.h"
#include "engine/thread_pool.h"
#include "ops/checks.h"

namespace lsif::ops {
namespace {

std::tuple<Tensor, Tensor, Tensor> encode(std::vector<Tensor> weights, std::vector<int64_t> config, double norm_eps,
                                          Tensor items, std::optional<Tensor> times, std::optional<Tensor> actions,
                                          Tensor offsets, std::optional<Tensor> now, int64_t threads) {
  const engine::ModelConfig c = engine::ModelConfig::from_ints(config, static_cast<float>(norm_eps));
  const std::vector<const void*> data = weight_data(c, weights);
  const int num_threads = engine::check_threads(threads);
  const engine::Model model(c, data, num_threads);

  const int64_t total = size_of("items", items, 1, 0);
  const int64_t batch = check_offsets("offsets", offsets, total);
  const engine::EventBatch events = {ints("items", items, {total}),
                                     ints("times", times, {total}),
                                     ints("actions", actions, {total}),
                                     ints("offsets", offsets, {batch + 1}),
                                     ints("now", now, {batch}),
                                     total,
                                     batch};
  engine::check_events(c, events);
  const Tensor& like = weights[0];
  Tensor fused = new_floats(like, {batch, c.dim});
  Tensor interests = new_floats(like, {batch, c.num_interests(), c.dim});
  Tensor interest_weights = new_floats(like, {batch, c.num_interests()});
  engine::encode(model, events, num_threads,
                 {static_cast<float*>(fused.mutable_data_ptr()), static_cast<float*>(interests.mutable_data_ptr()),
                  static_cast<float*>(interest_weights.mutable_data_ptr())});
  return {fused, interests, interest_weights};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(lsif, m) {
  m.def(
      "encode(Tensor[] weights, int[] config, float norm_eps, Tensor items, Tensor? times, Tensor? actions, Tensor "
      "offsets, "
      "Tensor? now, int threads) -> (Tensor fused, Tensor interests, Tensor weights)");
}

STABLE_TORCH_LIBRARY_IMPL(lsif, CPU, m) { m.impl("encode", TORCH_BOX(&encode)); }

}  // namespace lsif::ops
