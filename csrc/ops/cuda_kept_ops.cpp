// torch.ops.lsif_kept on CUDA                                                                       (ops/kept.h)
//
// Nothing here waits for the device but keep_*, so calls can be captured in a CUDA graph. Work goes to torch's current
// stream; what is kept was made in the one that was current then, which keep_* have waited for.
#include "engine/refuse.h"
#include "engine/score_checks.h"
#include "kernels/cuda/user_states.h"
#include "ops/cuda_catalog.h"
#include "ops/cuda_encoder.h"
#include "ops/kept.h"

namespace lsif::ops {
namespace {

using Encoders = Kept<CudaEncoder, kCudaEncoder>;
using Catalogs = Kept<CudaCatalog, kCudaCatalog>;

void wait_for(const Tensor& t) {
  const OnDevice device(t);
  check_launch(cudaStreamSynchronize(device.stream));
}

int64_t keep_encoder(std::vector<Tensor> weights, std::vector<int64_t> config, double norm_eps, std::string precision,
                     int64_t threads) {
  const std::shared_ptr<CudaEncoder> encoder =
      make_encoder(std::move(weights), config, norm_eps, engine::precision_from(precision), threads);
  wait_for(encoder->packed);
  return Encoders::all().keep(encoder);
}

int64_t keep_catalog(Tensor vectors, Tensor bias, Tensor codes) {
  auto catalog = std::make_shared<CudaCatalog>(view_catalog(vectors, bias, codes));
  wait_for(vectors);  // codes may have been copied
  return Catalogs::all().keep(std::move(catalog));
}

void drop(int64_t kept, Tensor) {
  if (!Encoders::all().drop(kept)) Catalogs::all().drop(kept);
}

std::tuple<Tensor, Tensor, Tensor> encode(int64_t encoder, Tensor items, std::optional<Tensor> times,
                                          std::optional<Tensor> actions, Tensor offsets, std::optional<Tensor> now,
                                          int64_t /*threads*/) {
  const auto kept = Encoders::all().get("encoder", encoder);
  return run_encoder(*kept, event_batch(items, times, actions, offsets, now, device_of(kept->packed)));
}

// The states of an encoder on its device, which is the current one while this lives.
class StatesOf {
 public:
  explicit StatesOf(int64_t encoder)
      : encoder_(Encoders::all().get("encoder", encoder)),
        on_(encoder_->packed),
        params_(engine::encoder_params(encoder_->model)) {
    if (encoder_->model.precision != engine::Precision::kFloat32 || !cuda::user_states_fit(params_.shape)) {
      engine::refuse("encoder", "a model in float32 whose user states fit a GPU (docs/cuda.md)", "one that does not");
    }
  }

  const cuda::EncoderParams& params() const { return params_; }
  int64_t size() const { return cuda::device_state_size(params_.shape); }
  Place place() const { return device_of(encoder_->packed); }
  cudaStream_t stream() const { return on_.stream; }
  Encoding new_encoding(int64_t batch) const { return {encoder_->packed, encoder_->model.config, batch}; }

  cuda::StateSlots slots(const Tensor& states, const Tensor& slots) const {
    const StateMemory memory = state_memory(states, slots, size(), place());
    return {memory.states, memory.slots, memory.batch};
  }

 private:
  std::shared_ptr<const CudaEncoder> encoder_;
  OnDevice on_;
  cuda::EncoderParams params_;
};

int64_t state_size(int64_t encoder, Tensor) { return StatesOf(encoder).size(); }

void start_states(int64_t encoder, Tensor states, Tensor slots) {
  const StatesOf of(encoder);
  check_launch(cuda::start_states(of.params().shape, of.slots(states, slots), of.stream()));
}

void append(int64_t encoder, Tensor states, Tensor slots, Tensor items, std::optional<Tensor> times,
            std::optional<Tensor> actions, int64_t /*threads*/) {
  const StatesOf of(encoder);
  const cuda::StateSlots to = of.slots(states, slots);
  const engine::EventBatch events = single_events(items, times, actions, to.batch, of.place());
  check_launch(cuda::append(of.params(), to, events.items, events.times, events.actions, of.stream()));
}

std::tuple<Tensor, Tensor, Tensor> encode_states(int64_t encoder, Tensor states, Tensor slots,
                                                 std::optional<Tensor> now, int64_t /*threads*/) {
  const StatesOf of(encoder);
  const cuda::StateSlots from = of.slots(states, slots);
  const int64_t* asked = ints("now", now, {from.batch}, of.place());
  Encoding encoding = of.new_encoding(from.batch);
  const engine::Encoded out = encoding.out();
  check_launch(cuda::encode_states(of.params(), from, asked, out.fused, out.interests, out.weights, of.stream()));
  return encoding.tensors();
}

std::tuple<Tensor, Tensor, Tensor> score_topk(int64_t catalog, Tensor queries, std::optional<Tensor> weights,
                                              double temperature, int64_t k, std::optional<Tensor> exclude_items,
                                              std::optional<Tensor> exclude_offsets, std::optional<Tensor> allowed,
                                              int64_t /*threads*/) {
  const auto kept = Catalogs::all().get("catalog", catalog);
  const ScoreQueries users = queries_on(*kept, queries, weights, temperature);
  check_both_or_none("exclude_offsets", exclude_offsets, "exclude_items", exclude_items);
  engine::check_k(k);
  const DeviceArguments on(kept->vectors);
  cuda::Filters filters;
  filters.exclude_items = on.ints("exclude_items", exclude_items, {kAny});
  filters.exclude_offsets = on.ints("exclude_offsets", exclude_offsets, {users.batch + 1});
  filters.allowed = reinterpret_cast<const uint64_t* const*>(on.ints("allowed", allowed, {users.batch}));
  return run_score_topk(*kept, users, filters, k);
}

Tensor score_items(int64_t catalog, Tensor queries, std::optional<Tensor> weights, double temperature, Tensor items) {
  const auto kept = Catalogs::all().get("catalog", catalog);
  return run_score_items(*kept, queries_on(*kept, queries, weights, temperature), items);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(lsif_kept, CUDA, m) {
  m.impl("keep_encoder", TORCH_BOX(&keep_encoder));
  m.impl("keep_catalog", TORCH_BOX(&keep_catalog));
  m.impl("drop", TORCH_BOX(&drop));
  m.impl("encode", TORCH_BOX(&encode));
  m.impl("state_size", TORCH_BOX(&state_size));
  m.impl("start_states", TORCH_BOX(&start_states));
  m.impl("append", TORCH_BOX(&append));
  m.impl("encode_states", TORCH_BOX(&encode_states));
  m.impl("score_topk", TORCH_BOX(&score_topk));
  m.impl("score_items", TORCH_BOX(&score_items));
}

}  // namespace lsif::ops
