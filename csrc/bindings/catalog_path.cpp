#include <string>
#include <utility>

#include "bindings/bindings.h"
#include "bindings/catalog_arrays.h"
#include "engine/ragged.h"
#include "engine/score_checks.h"
#include "engine/score_topk.h"
#include "engine/thread_pool.h"

namespace lsif::bindings {
namespace {

// Takes the rows to leave out, of all users, into the request, in memory of `scratch`; -1 stands for none.
void take_exclusions(const py::object& rows, const py::object& row_offsets, int64_t num_items,
                     engine::ScoreTopkRequest& request, engine::Scratch& scratch) {
  if (rows.is_none()) return;
  const int64_t total = array_from("exclude", rows).size();
  int64_t* items = copy_or_null("exclude", rows, total, scratch);
  int64_t* offsets =
      copy_or_null("exclude offsets", array_from("exclude offsets", row_offsets), request.batch + 1, scratch);
  engine::check_offsets("exclude offsets", offsets, request.batch, total);
  int64_t kept = 0;
  int64_t begin = 0;
  for (int64_t b = 0; b < request.batch; ++b) {
    const int64_t end = offsets[b + 1];
    for (int64_t i = begin; i < end; ++i) {
      if (items[i] < -1 || items[i] >= num_items) {
        refuse("exclude", "rows in [0, " + std::to_string(num_items - 1) + "] (or -1, ignored)",
               std::to_string(items[i]));
      }
      if (items[i] >= 0) items[kept++] = items[i];
    }
    begin = end;
    offsets[b + 1] = kept;
  }
  request.exclude_items = items;
  request.exclude_offsets = offsets;
}

// A catalogue, immutable, answering any number of threads without the GIL.
class CatalogPath {
 public:
  explicit CatalogPath(CatalogArrays arrays) : arrays_(std::move(arrays)) {
    if (arrays_.vectors.ndim() != 2) refuse("vectors", "2 dimensions", std::to_string(arrays_.vectors.ndim()));
    view_ = arrays_.checked(arrays_.vectors.shape(0), arrays_.vectors.shape(1));
  }

  py::tuple top_k(const py::array& queries, const py::object& weights, double temperature, int64_t k,
                  const py::object& exclude_rows, const py::object& exclude_offsets, int64_t threads,
                  double error_share, const py::object& allowed) const {
    engine::ScoreTopkRequest request;
    request.batch = queries.ndim() > 0 ? queries.shape(0) : 0;
    request.num_interests = queries.ndim() == 3 ? queries.shape(1) : 1;
    engine::Scratch scratch;
    request.vectors = queries.ndim() == 3
                          ? copy<float>("queries", queries, {request.batch, request.num_interests, view_.dim}, scratch)
                          : copy<float>("queries", queries, {request.batch, view_.dim}, scratch);
    if (!weights.is_none()) {
      const py::array array = array_from("weights", weights);
      request.weights = copy<float>("weights", array, {request.batch, request.num_interests}, scratch);
    }
    request.temperature = temperature;
    request.k = k;
    take_exclusions(exclude_rows, exclude_offsets, view_.num_items, request, scratch);
    const AllowedRows allowed_rows(allowed, request.batch, view_.num_items);
    request.allowed = allowed_rows.data();
    request.threads = engine::check_threads(threads);
    request.error_share = engine::check_error_share(error_share);
    engine::check_k(k, view_.num_items);
    Array<float> scores({request.batch, k});
    Array<int64_t> indices({request.batch, k});
    Array<int64_t> counts(request.batch);
    float* score_data = scores.mutable_data();
    int64_t* index_data = indices.mutable_data();
    int64_t* count_data = counts.mutable_data();
    {
      const py::gil_scoped_release unlocked;
      engine::score_topk(view_, request, score_data, index_data, count_data);
    }
    return py::make_tuple(scores, indices, counts);
  }

  bool is_ordered() const { return view_.codes.order != nullptr; }

 private:
  // Python's arrays, held so that the borrowed memory lives as long as this object.
  CatalogArrays arrays_;
  CatalogView view_{};
};

}  // namespace

void bind_catalog_path(py::module_& m) {
  py::class_<CatalogPath>(m, "CatalogPath", "A catalogue, immutable, for any number of threads.")
      .def(py::init([](py::array vectors, py::array bias, py::array codes) {
             return std::make_unique<CatalogPath>(CatalogArrays{std::move(vectors), std::move(bias), std::move(codes)});
           }),
           py::arg("vectors"), py::arg("bias"), py::arg("codes"))
      .def_property_readonly("is_ordered", &CatalogPath::is_ordered, "Whether the codes' rows have an order.")
      .def("top_k", &CatalogPath::top_k, py::arg("queries"), py::arg("weights"), py::arg("temperature"), py::arg("k"),
           py::arg("exclude_rows"), py::arg("exclude_offsets"), py::arg("threads") = 0, py::arg("error_share") = 1.0,
           py::arg("allowed") = py::none(),
           "(scores, indices, counts) of each query, float32 [batch, dim] or [batch, num_interests, dim].");
}

}  // namespace lsif::bindings
