#include "bindings/request_path.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/codes.h"
#include "engine/offsets.h"
#include "engine/recommend.h"
#include "engine/repeats.h"
#include "engine/score_checks.h"
#include "engine/thread_pool.h"

namespace py = pybind11;

namespace lsif::bindings {
namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

std::string text(const py::handle& object) { return py::str(object); }

[[noreturn]] void refuse(const std::string& argument, const std::string& expected, const std::string& got) {
  throw std::invalid_argument(argument + ": expected " + expected + ", got " + got);
}

// A view of the array's memory, which is read where it is: an array of another dtype or layout is a mistake, not
// something to convert on the hot path.
template <typename T>
const T* view(const std::string& argument, const py::array& array, const std::vector<int64_t>& shape) {
  if (!py::isinstance<py::array_t<T, 0>>(array)) {
    refuse(argument, "dtype " + text(py::dtype::of<T>()), text(array.dtype()));
  }
  const std::vector<int64_t> got(array.shape(), array.shape() + array.ndim());
  if (got != shape) refuse(argument, "shape " + text(py::cast(shape)), text(py::cast(got)));
  if ((array.flags() & py::array::c_style) == 0) {
    const std::vector<int64_t> strides(array.strides(), array.strides() + array.ndim());
    refuse(argument, "a C-contiguous array", "one with strides " + text(py::cast(strides)) + " (bytes)");
  }
  return static_cast<const T*>(array.data());
}

py::array array_from(const char* argument, const py::object& object) {
  if (py::isinstance<py::array>(object)) return py::reinterpret_borrow<py::array>(object);
  throw py::type_error(std::string(argument) + ": expected a NumPy array, got " +
                       text(py::type::handle_of(object).attr("__name__")));
}

const int64_t* view_or_null(const char* argument, const py::object& array, const std::vector<int64_t>& shape) {
  return array.is_none() ? nullptr : view<int64_t>(argument, array_from(argument, array), shape);
}

// A copy, for values that serve as indices: once they are checked, other threads must not be able to write to them.
std::vector<int64_t> copy_or_empty(const char* argument, const py::object& array, const std::vector<int64_t>& shape) {
  const int64_t* values = view_or_null(argument, array, shape);
  return values == nullptr ? std::vector<int64_t>() : std::vector<int64_t>(values, values + shape[0]);
}

// A batch of histories, in part of its own memory.
struct Histories {
  std::vector<int64_t> items;
  std::vector<int64_t> actions;
  std::vector<int64_t> offsets;
  engine::EventBatch events;
};

template <typename T>
Array<T> array_of(const std::vector<T>& values) {
  return Array<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

struct CatalogArrays {
  py::array vectors;
  py::array bias;
  py::array codes;  // as torch.ops.lsif.code_catalog returns them
};

// A model and a catalogue, both immutable, answering requests from any number of threads without the GIL.
class RequestPath {
 public:
  RequestPath(const engine::ModelConfig& config, std::vector<py::array> weights, CatalogArrays catalog,
              bool multi_interest, double temperature, int64_t threads)
      : weights_(std::move(weights)), catalog_(std::move(catalog)), scoring_{multi_interest, temperature} {
    const std::vector<engine::WeightSpec> specs = engine::weight_specs(config);
    if (weights_.size() != specs.size()) {
      refuse("weights", std::to_string(specs.size()) + " arrays", std::to_string(weights_.size()));
    }
    std::vector<const void*> data;
    for (size_t i = 0; i < specs.size(); ++i) {
      const engine::WeightSpec& spec = specs[i];
      data.push_back(spec.is_int64 ? static_cast<const void*>(view<int64_t>(spec.name, weights_[i], spec.shape))
                                   : view<float>(spec.name, weights_[i], spec.shape));
    }
    const int64_t n = config.num_items;
    const int64_t num_codes = catalog_.codes.size();
    view_ = {view<float>("vectors", catalog_.vectors, {n, config.dim}), view<float>("bias", catalog_.bias, {n}),
             engine::view_codes(view<uint8_t>("codes", catalog_.codes, {num_codes}), num_codes, n, config.dim), n,
             config.dim};
    const int num_threads = engine::check_threads(threads);
    const py::gil_scoped_release unlocked;
    model_ = std::make_unique<engine::Model>(config, data, num_threads);
  }

  py::tuple encode(const py::object& items, const py::object& times, const py::object& actions,
                   const py::object& offsets, const py::object& now, int64_t threads) const {
    const Histories histories = histories_from(items, times, actions, offsets, now);
    const engine::EventBatch& events = histories.events;
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

  py::tuple repeat_bonus(const py::object& items, const py::object& times, const py::object& offsets,
                         const py::object& now, const py::object& newest, int64_t threads) const {
    const Histories histories = histories_from(items, times, py::none(), offsets, now);
    const engine::EventBatch& events = histories.events;
    const int num_threads = engine::check_threads(threads);
    const engine::ModelConfig& c = model_->config();
    if (!c.repeats) refuse("repeats", "a model with this option", "one without");
    const auto* states = view<float>("newest", array_from("newest", newest), {events.batch, c.dim});
    engine::RepeatBonuses found;
    {
      const py::gil_scoped_release unlocked;
      engine::check_events(c, events);
      found = engine::repeat_bonuses(*model_, events, states, c.dim, num_threads);
    }
    return py::make_tuple(array_of(found.rows), array_of(found.values), array_of(found.offsets));
  }

  py::tuple recommend(const py::object& items, const py::object& times, const py::object& actions,
                      const py::object& offsets, const py::object& now, int64_t k, bool exclude_seen,
                      const py::object& exclude_items, const py::object& exclude_offsets, int64_t threads) const {
    const Histories histories = histories_from(items, times, actions, offsets, now);
    engine::RecommendRequest request{};
    request.events = histories.events;
    request.k = k;
    request.exclude_seen = exclude_seen;
    request.threads = engine::check_threads(threads);
    const int64_t batch = request.events.batch;
    if (exclude_items.is_none() != exclude_offsets.is_none()) {
      refuse("exclude_offsets", "with exclude_items and only then", "one without the other");
    }
    std::vector<int64_t> excluded;
    std::vector<int64_t> excluded_offsets;
    if (!exclude_items.is_none()) {
      const int64_t total = array_from("exclude_items", exclude_items).size();
      excluded = copy_or_empty("exclude_items", exclude_items, {total});
      excluded_offsets = copy_or_empty("exclude_offsets", exclude_offsets, {batch + 1});
      request.exclude_items = excluded.data();
      request.exclude_offsets = excluded_offsets.data();
      engine::check_offsets("exclude_offsets", request.exclude_offsets, batch, total);
    }
    engine::check_k(k);
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
  static Histories histories_from(const py::object& items, const py::object& times, const py::object& actions,
                                  const py::object& offsets, const py::object& now) {
    const int64_t total = array_from("items", items).size();
    const int64_t batch = array_from("offsets", offsets).size() - 1;
    if (batch < 0) refuse("offsets", "at least one value", "none");
    Histories histories{};
    histories.items = copy_or_empty("items", items, {total});
    const int64_t* event_times = view_or_null("times", times, {total});
    histories.actions = copy_or_empty("actions", actions, {total});
    histories.offsets = copy_or_empty("offsets", offsets, {batch + 1});
    histories.events = {histories.items.data(),
                        event_times,
                        actions.is_none() ? nullptr : histories.actions.data(),
                        histories.offsets.data(),
                        view_or_null("now", now, {batch}),
                        total,
                        batch};
    return histories;
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
                                  py::array bias, py::array codes, bool multi_interest, double temperature,
                                  int64_t threads) {
             CatalogArrays catalog = {std::move(vectors), std::move(bias), std::move(codes)};
             return std::make_unique<RequestPath>(config_from(config), std::move(weights), std::move(catalog),
                                                  multi_interest, temperature, threads);
           }),
           py::arg("config"), py::arg("weights"), py::arg("vectors"), py::arg("bias"), py::arg("codes"),
           py::arg("multi_interest"), py::arg("temperature"), py::arg("threads") = 0)
      .def("encode", &RequestPath::encode, py::arg("items"), py::arg("times") = none, py::arg("actions") = none,
           py::arg("offsets"), py::arg("now") = none, py::arg("threads") = 0,
           "(fused, interests, weights) of each user.")
      .def("repeat_bonus", &RequestPath::repeat_bonus, py::arg("items"), py::arg("times"), py::arg("offsets"),
           py::arg("now"), py::arg("newest"), py::arg("threads") = 0,
           "(rows, values, offsets): the distinct items of each history, ascending, and what their scores gain.")
      .def("recommend", &RequestPath::recommend, py::arg("items"), py::arg("times"), py::arg("actions"),
           py::arg("offsets"), py::arg("now"), py::arg("k"), py::arg("exclude_seen"), py::arg("exclude_items"),
           py::arg("exclude_offsets"), py::arg("threads") = 0, "(scores, indices, counts, long_share) of each user.");
}

}  // namespace lsif::bindings
