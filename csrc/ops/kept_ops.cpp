// torch.ops.lsif_kept on the CPU                                                                    (ops/kept.h)
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "engine/append.h"
#include "engine/encode.h"
#include "engine/thread_pool.h"
#include "ops/cpu_catalog.h"
#include "ops/encoding.h"
#include "ops/kept.h"

namespace lsif::ops {
namespace {

struct Encoder {
  std::vector<Tensor> weights;  // which the model borrows
  std::unique_ptr<const engine::Model> model;
};

struct Catalog {
  Tensor vectors;
  Tensor bias;
  Tensor codes;
  CatalogView view;
};

using Encoders = Kept<Encoder, kCpuEncoder>;
using Catalogs = Kept<Catalog, kCpuCatalog>;

int64_t keep_encoder(std::vector<Tensor> weights, std::vector<int64_t> config, double norm_eps, std::string precision,
                     int64_t threads) {
  const engine::ModelConfig c = engine::ModelConfig::from_ints(config, static_cast<float>(norm_eps));
  auto encoder = std::make_shared<Encoder>();
  const std::vector<const void*> data = weight_data(c, weights);
  encoder->model = std::make_unique<engine::Model>(c, data, engine::check_threads(threads),
                                                   engine::ModelOptions{0, engine::precision_from(precision)});
  encoder->weights = std::move(weights);
  return Encoders::all().keep(std::move(encoder));
}

int64_t keep_catalog(Tensor vectors, Tensor bias, Tensor codes) {
  const CatalogView view = cpu_catalog(vectors, bias, codes);
  return Catalogs::all().keep(std::make_shared<Catalog>(Catalog{vectors, bias, codes, view}));
}

void drop(int64_t kept, Tensor) {
  if (!Encoders::all().drop(kept)) Catalogs::all().drop(kept);
}

std::tuple<Tensor, Tensor, Tensor> encode(int64_t encoder, Tensor items, std::optional<Tensor> times,
                                          std::optional<Tensor> actions, Tensor offsets, std::optional<Tensor> now,
                                          int64_t threads) {
  const auto kept = Encoders::all().get("encoder", encoder);
  const engine::EventBatch events = event_batch(items, times, actions, offsets, now);
  Encoding encoding(items, kept->model->config(), events.batch);
  engine::encode(*kept->model, events, engine::check_threads(threads), encoding.out());
  return encoding.tensors();
}

// States are those of engine/user_state.h and remember the newest event alone.
constexpr int64_t kRemember = 1;

int64_t state_size(const engine::ModelConfig& config) { return engine::user_state_size(config, kRemember); }

int64_t state_size_of(int64_t encoder, Tensor) {
  return state_size(Encoders::all().get("encoder", encoder)->model->config());
}

template <typename State>
std::vector<State> states_of(const engine::ModelConfig& config, const StateMemory& memory) {
  std::vector<State> states;
  for (int64_t b = 0; b < memory.batch; ++b) {
    auto* bytes = reinterpret_cast<std::byte*>(memory.states + memory.slots[b] * state_size(config));
    states.emplace_back(config, kRemember, bytes);
  }
  return states;
}

void start_states(int64_t encoder, Tensor states, Tensor slots) {
  const auto kept = Encoders::all().get("encoder", encoder);
  const engine::ModelConfig& c = kept->model->config();
  const StateMemory memory = state_memory(states, slots, state_size(c));
  for (int64_t b = 0; b < memory.batch; ++b) {
    auto* bytes = reinterpret_cast<std::byte*>(memory.states + memory.slots[b] * state_size(c));
    engine::start_state(c, {}, kRemember, bytes);
  }
}

void append(int64_t encoder, Tensor states, Tensor slots, Tensor items, std::optional<Tensor> times,
            std::optional<Tensor> actions, int64_t threads) {
  const auto kept = Encoders::all().get("encoder", encoder);
  const engine::ModelConfig& c = kept->model->config();
  const StateMemory memory = state_memory(states, slots, state_size(c));
  engine::EventBatch events = single_events(items, times, actions, memory.batch);
  const std::vector<int64_t> offsets = equal_offsets(memory.batch, 1);
  events.offsets = offsets.data();
  engine::append(*kept->model, states_of<engine::UserState>(c, memory), events, engine::check_threads(threads));
}

std::tuple<Tensor, Tensor, Tensor> encode_states(int64_t encoder, Tensor states, Tensor slots,
                                                 std::optional<Tensor> now, int64_t threads) {
  const auto kept = Encoders::all().get("encoder", encoder);
  const engine::ModelConfig& c = kept->model->config();
  const StateMemory memory = state_memory(states, slots, state_size(c));
  const int64_t* asked = ints("now", now, {memory.batch});
  Encoding encoding(slots, c, memory.batch);
  engine::encode_states(*kept->model, states_of<engine::ConstUserState>(c, memory), asked,
                        engine::check_threads(threads), encoding.out());
  return encoding.tensors();
}

std::tuple<Tensor, Tensor, Tensor> score_topk(int64_t catalog, Tensor queries, std::optional<Tensor> weights,
                                              double temperature, int64_t k, std::optional<Tensor> exclude_items,
                                              std::optional<Tensor> exclude_offsets, std::optional<Tensor> allowed,
                                              int64_t threads) {
  const auto kept = Catalogs::all().get("catalog", catalog);
  engine::ScoreTopkRequest request{score_queries(kept->view, queries, weights, temperature)};
  request.k = k;
  check_both_or_none("exclude_offsets", exclude_offsets, "exclude_items", exclude_items);
  request.exclude_items = ints("exclude_items", exclude_items, {kAny});
  request.exclude_offsets = ints("exclude_offsets", exclude_offsets, {request.batch + 1});
  request.allowed = reinterpret_cast<const uint64_t* const*>(ints("allowed", allowed, {request.batch}));
  request.threads = engine::check_threads(threads);
  return run_score_topk(kept->view, request, queries);
}

Tensor score_items(int64_t catalog, Tensor queries, std::optional<Tensor> weights, double temperature, Tensor items) {
  const auto kept = Catalogs::all().get("catalog", catalog);
  return run_score_items(kept->view, score_queries(kept->view, queries, weights, temperature), items);
}

}  // namespace

// keep_* check as torch.ops.lsif.encode and score_topk do, and hold the tensors, which nobody may change; drop lets
// go of them (`like`: any tensor of the same device) when the last call that uses them is done.
//
// exclude_items: of each query ascending, each row once; what follows exclude_offsets[batch] is not read. allowed:
// int64 [batch], the address of each query's bitmap of rows in the device's memory (ScoreTopkRequest), 0: all rows. Of
// encode, events are as torch.ops.lsif.encode has them.
//
// User states are kept by the caller: uint8 [slots, state_size()], on the device; `slots`, each at most once, are those
// a call is about. start_states makes them states without events, append gives each one event more, encode_states is
// encode of their whole histories (engine/append.h, kernels/cuda/user_states.h).
STABLE_TORCH_LIBRARY(lsif_kept, m) {
  m.def("keep_encoder(Tensor[] weights, int[] config, float norm_eps, str precision, int threads) -> int");
  m.def("keep_catalog(Tensor vectors, Tensor bias, Tensor codes) -> int");
  m.def("drop(int kept, Tensor like) -> ()");
  m.def(
      "encode(int encoder, Tensor items, Tensor? times, Tensor? actions, Tensor offsets, Tensor? now, int threads) "
      "-> (Tensor fused, Tensor interests, Tensor weights)");
  m.def("state_size(int encoder, Tensor like) -> int");
  m.def("start_states(int encoder, Tensor(a!) states, Tensor slots) -> ()");
  m.def(
      "append(int encoder, Tensor(a!) states, Tensor slots, Tensor items, Tensor? times, Tensor? actions, int threads) "
      "-> ()");
  m.def(
      "encode_states(int encoder, Tensor states, Tensor slots, Tensor? now, int threads) -> (Tensor fused, Tensor "
      "interests, Tensor weights)");
  m.def(
      "score_topk(int catalog, Tensor queries, Tensor? weights, float temperature, int k, Tensor? exclude_items, "
      "Tensor? exclude_offsets, Tensor? allowed, int threads) -> (Tensor scores, Tensor indices, Tensor counts)");
  m.def("score_items(int catalog, Tensor queries, Tensor? weights, float temperature, Tensor items) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(lsif_kept, CPU, m) {
  m.impl("keep_encoder", TORCH_BOX(&keep_encoder));
  m.impl("keep_catalog", TORCH_BOX(&keep_catalog));
  m.impl("drop", TORCH_BOX(&drop));
  m.impl("encode", TORCH_BOX(&encode));
  m.impl("state_size", TORCH_BOX(&state_size_of));
  m.impl("start_states", TORCH_BOX(&start_states));
  m.impl("append", TORCH_BOX(&append));
  m.impl("encode_states", TORCH_BOX(&encode_states));
  m.impl("score_topk", TORCH_BOX(&score_topk));
  m.impl("score_items", TORCH_BOX(&score_items));
}

}  // namespace lsif::ops
