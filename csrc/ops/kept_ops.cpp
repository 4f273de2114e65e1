// torch.ops.lsif_kept on the CPU                                                                    (ops/kept.h)
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "engine/codes.h"
#include "engine/encode.h"
#include "engine/score_checks.h"
#include "engine/score_topk.h"
#include "engine/thread_pool.h"
#include "ops/checks.h"
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

int64_t keep_encoder(std::vector<Tensor> weights, std::vector<int64_t> config, double norm_eps, int64_t threads) {
  const engine::ModelConfig c = engine::ModelConfig::from_ints(config, static_cast<float>(norm_eps));
  auto encoder = std::make_shared<Encoder>();
  const std::vector<const void*> data = weight_data(c, weights);
  encoder->model = std::make_unique<engine::Model>(c, data, engine::check_threads(threads));
  encoder->weights = std::move(weights);
  return Encoders::all().keep(std::move(encoder));
}

int64_t keep_catalog(Tensor vectors, Tensor bias, Tensor codes) {
  const int64_t num_items = size_of("vectors", vectors, 2, 0);
  const int64_t dim = size_of("vectors", vectors, 2, 1);
  const int64_t size = size_of("codes", codes, 1, 0);
  check_tensor("codes", codes, ScalarType::Byte, {size});
  const CatalogView view = {
      floats("vectors", vectors, {num_items, dim}), floats("bias", bias, {num_items}),
      engine::view_codes(static_cast<const uint8_t*>(codes.const_data_ptr()), size, num_items, dim), num_items, dim};
  return Catalogs::all().keep(std::make_shared<Catalog>(Catalog{vectors, bias, codes, view}));
}

void drop(int64_t kept, Tensor) {
  if (!Encoders::all().drop(kept)) Catalogs::all().drop(kept);
}

std::tuple<Tensor, Tensor, Tensor> encode(int64_t encoder, Tensor items, std::optional<Tensor> times,
                                          std::optional<Tensor> actions, Tensor offsets, std::optional<Tensor> now,
                                          int64_t threads) {
  const auto kept = Encoders::all().get("encoder", encoder);
  const engine::ModelConfig& c = kept->model->config();
  const int64_t total = size_of("items", items, 1, 0);
  const int64_t batch = size_of("offsets", offsets, 1, 0) - 1;
  const engine::EventBatch events = {ints("items", items, {total}),
                                     ints("times", times, {total}),
                                     ints("actions", actions, {total}),
                                     ints("offsets", offsets, {batch + 1}),
                                     ints("now", now, {batch}),
                                     total,
                                     batch};
  Tensor fused = new_floats(items, {batch, c.dim});
  Tensor interests = new_floats(items, {batch, c.num_interests(), c.dim});
  Tensor weights = new_floats(items, {batch, c.num_interests()});
  engine::encode(*kept->model, events, engine::check_threads(threads),
                 {static_cast<float*>(fused.mutable_data_ptr()), static_cast<float*>(interests.mutable_data_ptr()),
                  static_cast<float*>(weights.mutable_data_ptr())});
  return {fused, interests, weights};
}

void take_queries(const CatalogView& catalog, const Tensor& vectors, const std::optional<Tensor>& weights,
                  double temperature, ScoreQueries& queries) {
  queries.batch = size_of("queries", vectors, 3, 0);
  queries.num_interests = size_of("queries", vectors, 3, 1);
  queries.vectors = floats("queries", vectors, {queries.batch, queries.num_interests, catalog.dim});
  queries.weights = floats("weights", weights, {queries.batch, queries.num_interests});
  queries.temperature = temperature;
}

std::tuple<Tensor, Tensor, Tensor> score_topk(int64_t catalog, Tensor queries, std::optional<Tensor> weights,
                                              double temperature, int64_t k, std::optional<Tensor> exclude_items,
                                              std::optional<Tensor> exclude_offsets, std::optional<Tensor> allowed,
                                              int64_t threads) {
  const auto kept = Catalogs::all().get("catalog", catalog);
  engine::ScoreTopkRequest request;
  take_queries(kept->view, queries, weights, temperature, request);
  request.k = k;
  check_both_or_none("exclude_offsets", exclude_offsets, "exclude_items", exclude_items);
  request.exclude_items = ints("exclude_items", exclude_items, {kAny});
  request.exclude_offsets = ints("exclude_offsets", exclude_offsets, {request.batch + 1});
  request.allowed = reinterpret_cast<const uint64_t* const*>(ints("allowed", allowed, {request.batch}));
  request.threads = engine::check_threads(threads);
  engine::check_k(k);
  Tensor scores = new_floats(queries, {request.batch, k});
  Tensor indices = new_ints(queries, {request.batch, k});
  Tensor counts = new_ints(queries, {request.batch});
  engine::score_topk(kept->view, request, static_cast<float*>(scores.mutable_data_ptr()),
                     static_cast<int64_t*>(indices.mutable_data_ptr()),
                     static_cast<int64_t*>(counts.mutable_data_ptr()));
  return {scores, indices, counts};
}

Tensor score_items(int64_t catalog, Tensor queries, std::optional<Tensor> weights, double temperature, Tensor items) {
  const auto kept = Catalogs::all().get("catalog", catalog);
  ScoreQueries users;
  take_queries(kept->view, queries, weights, temperature, users);
  const int64_t num_candidates = size_of("items", items, 2, 1);
  const int64_t* rows = ints("items", items, {users.batch, num_candidates});
  const std::vector<int64_t> offsets = equal_offsets(users.batch, num_candidates);
  Tensor scores = new_floats(queries, {users.batch, num_candidates});
  engine::score_items(kept->view, users, rows, offsets.data(), static_cast<float*>(scores.mutable_data_ptr()), 1);
  return scores;
}

}  // namespace

// keep_* check as torch.ops.lsif.encode and score_topk do, and hold the tensors, which nobody may change; drop lets
// go of them (`like`: any tensor of the same device) when the last call that uses them is done.
//
// exclude_items: of each query ascending, each row once; what follows exclude_offsets[batch] is not read. allowed:
// int64 [batch], the address of each query's bitmap of rows in the device's memory (ScoreTopkRequest), 0: all rows. Of
// encode, events are as torch.ops.lsif.encode has them.
STABLE_TORCH_LIBRARY(lsif_kept, m) {
  m.def("keep_encoder(Tensor[] weights, int[] config, float norm_eps, int threads) -> int");
  m.def("keep_catalog(Tensor vectors, Tensor bias, Tensor codes) -> int");
  m.def("drop(int kept, Tensor like) -> ()");
  m.def(
      "encode(int encoder, Tensor items, Tensor? times, Tensor? actions, Tensor offsets, Tensor? now, int threads) "
      "-> (Tensor fused, Tensor interests, Tensor weights)");
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
  m.impl("score_topk", TORCH_BOX(&score_topk));
  m.impl("score_items", TORCH_BOX(&score_items));
}

}  // namespace lsif::ops
