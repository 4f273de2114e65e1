// The whole encoder as one op: a pure function of weights and events. It packs the weights at every call; the request
// path object (csrc/bindings) keeps them packed.
#include "engine/encode.h"
#include "engine/thread_pool.h"
#include "ops/encoding.h"

namespace lsif::ops {
namespace {

std::tuple<Tensor, Tensor, Tensor> encode(std::vector<Tensor> weights, std::vector<int64_t> config, double norm_eps,
                                          Tensor items, std::optional<Tensor> times, std::optional<Tensor> actions,
                                          Tensor offsets, std::optional<Tensor> now, int64_t threads) {
  const engine::ModelConfig c = engine::ModelConfig::from_ints(config, static_cast<float>(norm_eps));
  const std::vector<const void*> data = weight_data(c, weights);
  const int num_threads = engine::check_threads(threads);
  const engine::Model model(c, data, num_threads);

  check_offsets("offsets", offsets, size_of("items", items, 1, 0));
  const engine::EventBatch events = event_batch(items, times, actions, offsets, now);
  engine::check_events(c, events);
  Encoding encoding(weights[0], c, events.batch);
  engine::encode(model, events, num_threads, encoding.out());
  return encoding.tensors();
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
