// torch.ops.lsif_kept on CUDA                                                                       (ops/kept.h)
//
// Nothing here waits for the device but keep_*, so calls can be captured in a CUDA graph. Work goes to torch's current
// stream; what is kept was made in the one that was current then, which keep_* have waited for.
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

int64_t keep_encoder(std::vector<Tensor> weights, std::vector<int64_t> config, double norm_eps, int64_t threads) {
  const std::shared_ptr<CudaEncoder> encoder = make_encoder(std::move(weights), config, norm_eps, threads);
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
  return run_encoder(*kept, events_on(*kept, items, times, actions, offsets, now));
}

std::tuple<Tensor, Tensor, Tensor> score_topk(int64_t catalog, Tensor queries, std::optional<Tensor> weights,
                                              double temperature, int64_t k, std::optional<Tensor> exclude_items,
                                              std::optional<Tensor> exclude_offsets, std::optional<Tensor> allowed,
                                              int64_t /*threads*/) {
  const auto kept = Catalogs::all().get("catalog", catalog);
  const ScoreQueries users = queries_on(*kept, queries, weights, temperature);
  check_both_or_none("exclude_offsets", exclude_offsets, "exclude_items", exclude_items);
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
  m.impl("score_topk", TORCH_BOX(&score_topk));
  m.impl("score_items", TORCH_BOX(&score_items));
}

}  // namespace lsif::ops
