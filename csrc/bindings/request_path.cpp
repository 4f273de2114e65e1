#include "bindings/request_path.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/recommend.h"
#include "engine/thread_pool.h"

namespace py = pybind11;

namespace lsif::bindings {
namespace {

// No forcecast: an array of another dtype is a mistake, not something to convert on the hot path.
template <typename T>
using Array = py::array_t<T, py::array::c_style>;
using Ints = std::optional<Array<int64_t>>;

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

void check_shape(const std::string& argument, const py::array& array, const std::vector<int64_t>& shape) {
  const std::vector<int64_t> got(array.shape(), array.shape() + array.ndim());
  if (got != shape) {
    throw std::invalid_argument(argument + ": expected shape " + shape_text(shape) + ", got " + shape_text(got));
  }
}

template <typename T>
const T* checked(const char* argument, const Array<T>& array, const std::vector<int64_t>& shape) {
  check_shape(argument, array, shape);
  return array.data();
}

const int64_t* checked(const char* argument, const Ints& array, const std::vector<int64_t>& shape) {
  return array ? checked(argument, *array, shape) : nullptr;
}

// An array that is never converted or copied: its memory is borrowed for the life of the object.
template <typename T>
const T* borrowed(const std::string& name, const py::array& array, const std::vector<int64_t>& shape) {
  if (!py::dtype::of<T>().is(array.dtype())) {
    throw std::invalid_argument(name + ": expected dtype " + std::string(py::str(py::dtype::of<T>())) + ", got " +
                                std::string(py::str(array.dtype())));
  }
  check_shape(name, array, shape);
  if ((array.flags() & py::array::c_style) == 0) throw std::invalid_argument(name + ": expected a C-contiguous array");
  return static_cast<const T*>(array.data());
}

// The codes of a catalogue as NumPy views, in the order torch.ops.lsif.quantize_rows returns them.
struct CatalogArrays {
  py::array vectors;
  py::array bias;
  py::array codes;
  py::array scales;
  py::array errors;
  py::array norms;
};

// A model and a catalogue, both immutable, answering requests from any number of threads without the GIL.
class RequestPath {
 public:
  RequestPath(const engine::ModelConfig& config, std::vector<py::array> weights, CatalogArrays catalog,
              bool multi_interest, double temperature)
      : weights_(std::move(weights)), catalog_(std::move(catalog)), scoring_{multi_interest, temperature} {
    const std::vector<engine::WeightSpec> specs = engine::weight_specs(config);
    if (weights_.size() != specs.size()) {
      throw std::invalid_argument("weights: expected " + std::to_string(specs.size()) + " arrays, got " +
                                  std::to_string(weights_.size()));
    }
    std::vector<const void*> data;
    for (size_t i = 0; i < specs.size(); ++i) {
      const engine::WeightSpec& spec = specs[i];
      data.push_back(spec.is_int64 ? static_cast<const void*>(borrowed<int64_t>(spec.name, weights_[i], spec.shape))
                                   : borrowed<float>(spec.name, weights_[i], spec.shape));
    }
    const int64_t n = config.num_items;
    const int64_t stride = code_stride(config.dim);
    view_ = {borrowed<float>("vectors", catalog_.vectors, {config.num_items, config.dim}),
             borrowed<float>("bias", catalog_.bias, {n}),
             borrowed<int8_t>("codes", catalog_.codes, {n, stride}),
             borrowed<float>("scales", catalog_.scales, {n}),
             borrowed<float>("errors", catalog_.errors, {n}),
             borrowed<float>("norms", catalog_.norms, {n}),
             n,
             config.dim};
    const py::gil_scoped_release unlocked;
    model_ = std::make_unique<engine::Model>(config, data);
  }

  py::tuple encode(const Array<int64_t>& items, const Ints& times, const Ints& actions, const Array<int64_t>& offsets,
                   const Ints& now, int64_t threads) const {
    const engine::EventBatch events = event_batch(items, times, actions, offsets, now);
    const int num_threads = engine::check_threads(threads);
    const engine::ModelConfig& c = model_->config();
    Array<float> fused({events.batch, c.dim});
    Array<float> interests({events.batch, c.num_interests(), c.dim});
    Array<float> weights({events.batch, c.num_interests()});
    const engine::Encoded out = {fused.mutable_data(), interests.mutable_data(), weights.mutable_data()};
    {
      const py::gil_scoped_release unlocked;
      engine::check_events(c, events);
      engine::encode(*model_, events, num_threads, out);
    }
    return py::make_tuple(fused, interests, weights);
  }

  py::tuple recommend(const Array<int64_t>& items, const Ints& times, const Ints& actions,
                      const Array<int64_t>& offsets, const Ints& now, int64_t k, bool exclude_seen,
                      const Ints& exclude_items, const Ints& exclude_offsets, int64_t threads) const {
    engine::RecommendRequest request{};
    request.events = event_batch(items, times, actions, offsets, now);
    request.k = k;
    request.exclude_seen = exclude_seen;
    request.threads = engine::check_threads(threads);
    const int64_t batch = request.events.batch;
    if (exclude_items.has_value() != exclude_offsets.has_value()) {
      throw std::invalid_argument(
          "exclude_offsets: expected with exclude_items and only then, got one without the other");
    }
    if (exclude_items) {
      request.exclude_items = checked("exclude_items", *exclude_items, {exclude_items->size()});
      request.exclude_offsets = checked("exclude_offsets", *exclude_offsets, {batch + 1});
      check_exclude_offsets(request.exclude_offsets, batch, exclude_items->size());
    }
    if (k < 1) throw std::invalid_argument("k: expected an integer >= 1, got " + std::to_string(k));
    Array<float> scores({batch, k});
    Array<int64_t> indices({batch, k});
    Array<int64_t> counts(batch);
    Array<float> long_share(batch);
    const engine::Recommendations out = {scores.mutable_data(), indices.mutable_data(), counts.mutable_data(),
                                         long_share.mutable_data()};
    {
      const py::gil_scoped_release unlocked;
      engine::check_events(model_->config(), request.events);
      engine::recommend(*model_, view_, scoring_, request, out);
    }
    return py::make_tuple(scores, indices, counts, long_share);
  }

 private:
  engine::EventBatch event_batch(const Array<int64_t>& items, const Ints& times, const Ints& actions,
                                 const Array<int64_t>& offsets, const Ints& now) const {
    const int64_t total = items.size();
    const int64_t batch = offsets.size() - 1;
    if (batch < 0) throw std::invalid_argument("offsets: expected at least one value, got none");
    return {checked("items", items, {total}),
            checked("times", times, {total}),
            checked("actions", actions, {total}),
            checked("offsets", offsets, {batch + 1}),
            checked("now", now, {batch}),
            total,
            batch};
  }

  static void check_exclude_offsets(const int64_t* offsets, int64_t batch, int64_t total) {
    bool ok = offsets[0] == 0 && offsets[batch] == total;
    for (int64_t b = 0; ok && b < batch; ++b) ok = offsets[b] <= offsets[b + 1];
    if (!ok) {
      throw std::invalid_argument("exclude_offsets: expected non-decreasing values from 0 to " + std::to_string(total));
    }
  }

  // Python's arrays, held so that the borrowed memory lives as long as this object.
  std::vector<py::array> weights_;
  CatalogArrays catalog_;
  engine::Scoring scoring_;
  CatalogView view_{};
  std::unique_ptr<const engine::Model> model_;
};

}  // namespace

void bind_request_path(py::module_& m, engine::ModelConfig (*config_from)(const py::dict&)) {
  const auto none = py::none();
  py::class_<RequestPath>(m, "RequestPath", "A model and a catalogue, immutable, for any number of threads.")
      .def(py::init([config_from](const py::dict& config, std::vector<py::array> weights, py::array vectors,
                                  py::array bias, py::array codes, py::array scales, py::array errors, py::array norms,
                                  bool multi_interest, double temperature) {
             CatalogArrays catalog = {std::move(vectors), std::move(bias),   std::move(codes),
                                      std::move(scales),  std::move(errors), std::move(norms)};
             return std::make_unique<RequestPath>(config_from(config), std::move(weights), std::move(catalog),
                                                  multi_interest, temperature);
           }),
           py::arg("config"), py::arg("weights"), py::arg("vectors"), py::arg("bias"), py::arg("codes"),
           py::arg("scales"), py::arg("errors"), py::arg("norms"), py::arg("multi_interest"), py::arg("temperature"))
      .def("encode", &RequestPath::encode, py::arg("items").noconvert(), py::arg("times").noconvert() = none,
           py::arg("actions").noconvert() = none, py::arg("offsets").noconvert(), py::arg("now").noconvert() = none,
           py::arg("threads") = 0, "(fused, interests, weights) of each user.")
      .def("recommend", &RequestPath::recommend, py::arg("items").noconvert(), py::arg("times").noconvert(),
           py::arg("actions").noconvert(), py::arg("offsets").noconvert(), py::arg("now").noconvert(), py::arg("k"),
           py::arg("exclude_seen"), py::arg("exclude_items").noconvert(), py::arg("exclude_offsets").noconvert(),
           py::arg("threads") = 0, "(scores, indices, counts, long_share) of each user.");
}

}  // namespace lsif::bindings
