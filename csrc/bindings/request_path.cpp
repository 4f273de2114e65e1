#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bindings/bindings.h"
#include "bindings/catalog_arrays.h"
#include "bindings/request_arrays.h"
#include "engine/append.h"
#include "engine/repeats.h"

namespace lsif::bindings {
namespace {

using Bytes = Array<uint8_t>;

// A model and a catalogue, both immutable, answering requests from any number of threads without the GIL.
class RequestPath {
 public:
  RequestPath(const engine::ModelConfig& config, std::vector<py::array> weights, CatalogArrays catalog,
              bool multi_interest, double temperature, int64_t threads,
              const std::optional<engine::TopkBatcher::Limits>& batching, engine::ModelOptions options)
      : weights_(std::move(weights)), catalog_(std::move(catalog)), scoring_{multi_interest, temperature} {
    const std::vector<engine::WeightSpec> specs = engine::weight_specs(config);
    if (weights_.size() != specs.size()) {
      refuse("weights", std::to_string(specs.size()) + " arrays", std::to_string(weights_.size()));
    }
    std::vector<const void*> data;
    for (size_t i = 0; i < specs.size(); ++i) {
      const engine::WeightSpec& spec = specs[i];
      data.push_back(spec.is_int64 ? static_cast<const void*>(view<int64_t>(spec.name.c_str(), weights_[i], spec.shape))
                                   : view<float>(spec.name.c_str(), weights_[i], spec.shape));
    }
    view_ = catalog_.checked(config.num_items, config.dim);
    const int num_threads = engine::check_threads(threads);
    if (batching.has_value()) batcher_ = std::make_unique<engine::TopkBatcher>(*batching);
    const py::gil_scoped_release unlocked;
    model_ = std::make_shared<engine::Model>(config, data, num_threads, options);
  }

  // `before` with another catalogue, and the encoder's embeddings of its items, which begin with those it had.
  RequestPath(const RequestPath& before, const py::array& item_embedding, CatalogArrays catalog, int64_t threads)
      : weights_(before.weights_), catalog_(std::move(catalog)), scoring_(before.scoring_), model_(before.model_) {
    const engine::ModelConfig& c = model_->config();
    const int64_t num_items = item_embedding.ndim() == 2 ? item_embedding.shape(0) : 0;
    const auto* embedding = view<float>("item_embedding", item_embedding, {num_items, c.dim});
    view_ = catalog_.checked(num_items, c.dim);
    const int num_threads = engine::check_threads(threads);
    if (before.batcher_ != nullptr) batcher_ = std::make_unique<engine::TopkBatcher>(before.batcher_->limits());
    const std::vector<engine::WeightSpec> specs = engine::weight_specs(c);
    for (size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].name == "item_embedding") weights_[i] = item_embedding;
    }
    if (num_items == c.num_items && embedding == model_->embedding().items) return;
    const py::gil_scoped_release unlocked;
    model_ = std::make_shared<engine::Model>(*before.model_, embedding, num_items, num_threads);
  }

  void check_events(const py::object& items, const py::object& times, const py::object& actions,
                    const py::object& offsets, const py::object& now) const {
    engine::Scratch scratch;
    engine::check_events(model_->config(), histories_from(items, times, actions, offsets, now, scratch));
  }

  void check_balance(double balance) const { engine::check_balance(model_->config(), balance); }

  py::tuple encode(const py::object& items, const py::object& times, const py::object& actions,
                   const py::object& offsets, const py::object& now, int64_t threads) const {
    engine::Scratch scratch;
    const engine::EventBatch events = histories_from(items, times, actions, offsets, now, scratch);
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
    engine::Scratch scratch;
    const engine::EventBatch events = histories_from(items, times, py::none(), offsets, now, scratch);
    const int num_threads = engine::check_threads(threads);
    const engine::ModelConfig& c = model_->config();
    if (!c.repeats) refuse("repeats", "a model with this option", "one without");
    const auto* states = view<float>("newest", array_from("newest", newest), {events.batch, c.dim});
    engine::RepeatBonuses found{};
    {
      const py::gil_scoped_release unlocked;
      engine::check_events(c, events);
      found = engine::repeat_bonuses(*model_, events, states, c.dim, num_threads, scratch);
    }
    return py::make_tuple(Array<int64_t>(found.size(), found.rows), Array<float>(found.size(), found.values),
                          Array<int64_t>(found.batch + 1, found.offsets));
  }

  py::tuple recommend(const py::object& items, const py::object& times, const py::object& actions,
                      const py::object& offsets, const py::object& now, int64_t k, bool exclude_seen,
                      const py::object& exclude_items, const py::object& exclude_offsets, const py::object& allowed,
                      double balance, double timeout, int64_t threads, double error_share) const {
    engine::Scratch scratch;
    engine::RecommendRequest request{};
    request.events = histories_from(items, times, actions, offsets, now, scratch);
    const Ranking ranking(request, k, exclude_seen, exclude_items, exclude_offsets, allowed, view_.num_items, balance,
                          threads, error_share, scratch);
    request.batcher = batcher_.get();
    request.deadline = deadline_after(timeout);
    {
      const py::gil_scoped_release unlocked;
      engine::check_events(model_->config(), request.events);
      engine::check_balance(model_->config(), balance);
      engine::recommend(*model_, view_, scoring_, request, ranking.out);
    }
    return ranking.answer;
  }

  void close() {
    if (batcher_ != nullptr) batcher_->close();
  }

  void count_on_from(const RequestPath& before) {
    if (batcher_ != nullptr && before.batcher_ != nullptr) batcher_->count_on_from(*before.batcher_);
  }

  py::object batching_stats() const {
    if (batcher_ == nullptr) return py::none();
    const engine::TopkBatcher::Stats stats = batcher_->stats();
    py::dict counters;
    counters["requests"] = stats.requests;
    counters["batches"] = stats.batches;
    counters["largest_batch"] = stats.largest_batch;
    counters["overloaded"] = stats.overloaded;
    counters["expired"] = stats.expired;
    counters["queued"] = stats.queued;
    counters["sizes"] = stats.sizes;
    return counters;
  }

  Bytes new_state(const py::bytes& model, int64_t remember) const {
    engine::check_remember(remember);
    Bytes state(engine::user_state_size(model_->config(), remember));
    engine::start_state(model_->config(), fingerprint(model), remember, bytes_of(state));
    return state;
  }

  // New states, of `model`; those handed in stay as they are.
  std::vector<Bytes> append(const py::bytes& model, const std::vector<py::array>& states, const py::object& items,
                            const py::object& times, const py::object& actions, const py::object& offsets,
                            const py::object& unknown, int64_t threads) const {
    engine::Scratch scratch;
    const engine::EventBatch events = histories_from(items, times, actions, offsets, py::none(), scratch);
    const int num_threads = engine::check_threads(threads);
    const auto batch = static_cast<int64_t>(states.size());
    if (events.batch != batch) refuse("states", std::to_string(events.batch), std::to_string(batch));
    const int64_t* left_out = copy_or_null("unknown", unknown, batch, scratch);
    const engine::Fingerprint maker = fingerprint(model);
    std::vector<Bytes> grown;
    std::vector<engine::UserState> views;
    for (const engine::ConstUserState& state : checked(states, scratch)) {
      grown.emplace_back(state.header->size);
      std::memcpy(grown.back().mutable_data(), state.header, static_cast<size_t>(state.header->size));
      views.emplace_back(model_->config(), state.header->remember, bytes_of(grown.back()));
      views.back().header->model = maker;
    }
    {
      const py::gil_scoped_release unlocked;
      engine::check_events(model_->config(), events);
      engine::append(*model_, views, events, num_threads);
      if (left_out != nullptr) {
        for (int64_t b = 0; b < batch; ++b) views[b].header->num_unknown += left_out[b];
      }
    }
    return grown;
  }

  Bytes prepend(const py::bytes& model, const py::array& older, const py::array& newer) const {
    const engine::ConstUserState parts[] = {checked(older), checked(newer)};
    Bytes whole(parts[1].header->size);
    std::memcpy(whole.mutable_data(), parts[1].header, static_cast<size_t>(parts[1].header->size));
    const engine::UserState joined(model_->config(), parts[1].header->remember, bytes_of(whole));
    joined.header->model = fingerprint(model);
    engine::prepend(*model_, parts[0], joined);
    return whole;
  }

  py::tuple seen_events(const std::vector<py::array>& states) const {
    engine::Scratch scratch;
    const std::span<const engine::ConstUserState> views = checked(states, scratch);
    const engine::EventBatch events = engine::seen_events(model_->config(), views, nullptr, scratch);
    py::object times = py::none();
    if (events.times != nullptr) times = Array<int64_t>(events.total, events.times);
    return py::make_tuple(Array<int64_t>(events.total, events.items), times,
                          Array<int64_t>(events.batch + 1, events.offsets));
  }

  py::tuple encode_states(const std::vector<py::array>& states, const py::object& now, int64_t threads) const {
    engine::Scratch scratch;
    const std::span<const engine::ConstUserState> views = checked(states, scratch);
    const auto batch = static_cast<int64_t>(views.size());
    const int64_t* times = view_or_null("now", now, batch);
    const int num_threads = engine::check_threads(threads);
    const engine::ModelConfig& c = model_->config();
    Array<float> fused({batch, c.dim});
    Array<float> interests({batch, c.num_interests(), c.dim});
    Array<float> weights({batch, c.num_interests()});
    const engine::Encoded out = {fused.mutable_data(), interests.mutable_data(), weights.mutable_data()};
    {
      const py::gil_scoped_release unlocked;
      engine::encode_states(*model_, views, times, num_threads, out);
    }
    return py::make_tuple(fused, interests, weights);
  }

  py::tuple recommend_states(const std::vector<py::array>& states, const py::object& now, int64_t k, bool exclude_seen,
                             const py::object& exclude_items, const py::object& exclude_offsets,
                             const py::object& allowed, double balance, double timeout, int64_t threads,
                             double error_share) const {
    engine::Scratch scratch;
    const std::span<const engine::ConstUserState> views = checked(states, scratch);
    const int64_t* times = view_or_null("now", now, static_cast<int64_t>(views.size()));
    engine::RecommendRequest request{};
    request.events = engine::seen_events(model_->config(), views, times, scratch);
    const Ranking ranking(request, k, exclude_seen, exclude_items, exclude_offsets, allowed, view_.num_items, balance,
                          threads, error_share, scratch);
    request.batcher = batcher_.get();
    request.deadline = deadline_after(timeout);
    {
      const py::gil_scoped_release unlocked;
      engine::check_balance(model_->config(), balance);
      engine::recommend_states(*model_, view_, scoring_, views, request, ranking.out);
    }
    return ranking.answer;
  }

 private:
  // seconds below 0: never.
  static engine::TopkBatcher::Clock::time_point deadline_after(double seconds) {
    using Clock = engine::TopkBatcher::Clock;
    constexpr double kNever = 1e9;
    if (seconds < 0 || seconds >= kNever) return Clock::time_point::max();
    return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  }

  static std::byte* bytes_of(Bytes& array) { return reinterpret_cast<std::byte*>(array.mutable_data()); }

  static engine::Fingerprint fingerprint(const py::bytes& model) {
    const std::string_view text = model;
    engine::Fingerprint result{};
    if (text.size() != result.size()) refuse("model", std::to_string(result.size()) + " bytes", "others");
    std::copy(text.begin(), text.end(), result.begin());
    return result;
  }

  engine::ConstUserState checked(const py::array& state) const {
    const auto* data = reinterpret_cast<const std::byte*>(view<uint8_t>("state", state, {state.size()}));
    return engine::check_state(model_->config(), data, state.size());
  }

  std::span<const engine::ConstUserState> checked(const std::vector<py::array>& states,
                                                  engine::Scratch& scratch) const {
    auto* views = scratch.array<engine::ConstUserState>(static_cast<int64_t>(states.size()));
    for (size_t b = 0; b < states.size(); ++b) views[b] = checked(states[b]);
    return {views, states.size()};
  }

  // Python's arrays, held so that the borrowed memory lives as long as this object.
  std::vector<py::array> weights_;
  CatalogArrays catalog_;
  engine::Scoring scoring_;
  CatalogView view_{};
  std::shared_ptr<const engine::Model> model_;  // that snapshots with the same items share
  std::unique_ptr<engine::TopkBatcher> batcher_;
};

std::optional<engine::TopkBatcher::Limits> limits_from(const std::optional<std::array<int64_t, 4>>& batching) {
  if (!batching.has_value()) return std::nullopt;
  const auto [max_batch, max_queue, max_wait_us, max_searches] = *batching;
  return engine::TopkBatcher::Limits{max_batch, max_queue, max_wait_us, static_cast<int>(max_searches)};
}

}  // namespace

void bind_request_path(py::module_& m, engine::ModelConfig (*config_from)(const py::dict&)) {
  const auto none = py::none();
  py::register_exception<engine::Overloaded>(m, "OverloadedError");
  py::register_exception<engine::DeadlineExceeded>(m, "DeadlineError");
  py::register_exception<engine::Closed>(m, "ClosedError");
  py::class_<RequestPath>(m, "RequestPath", "A model and a catalogue, immutable, for any number of threads.")
      .def(py::init([config_from](const py::dict& config, std::vector<py::array> weights, py::array vectors,
                                  py::array bias, py::array codes, bool multi_interest, double temperature,
                                  int64_t threads, const std::optional<std::array<int64_t, 4>>& batching,
                                  const std::string& precision, bool input_table) {
             CatalogArrays catalog = {std::move(vectors), std::move(bias), std::move(codes)};
             return std::make_unique<RequestPath>(
                 config_from(config), std::move(weights), std::move(catalog), multi_interest, temperature, threads,
                 limits_from(batching),
                 engine::ModelOptions{input_table ? engine::kMostTableBytes : 0, engine::precision_from(precision)});
           }),
           py::arg("config"), py::arg("weights"), py::arg("vectors"), py::arg("bias"), py::arg("codes"),
           py::arg("multi_interest"), py::arg("temperature"), py::arg("threads") = 0, py::arg("batching") = none,
           py::arg("precision") = "float32", py::arg("input_table") = true)
      .def(
          "with_catalog",
          [](const RequestPath& before, const py::array& item_embedding, py::array vectors, py::array bias,
             py::array codes, int64_t threads) {
            CatalogArrays catalog = {std::move(vectors), std::move(bias), std::move(codes)};
            return std::make_unique<RequestPath>(before, item_embedding, std::move(catalog), threads);
          },
          py::arg("item_embedding"), py::arg("vectors"), py::arg("bias"), py::arg("codes"), py::arg("threads") = 0,
          "This path for another catalogue. item_embedding begins with this one's; only further rows are checked.")
      .def("check_events", &RequestPath::check_events, py::arg("items"), py::arg("times"), py::arg("actions"),
           py::arg("offsets"), py::arg("now"), "Refuses what `encode` refuses.")
      .def("check_balance", &RequestPath::check_balance, py::arg("balance"), "Refuses what `recommend` refuses.")
      .def("close", &RequestPath::close, py::call_guard<py::gil_scoped_release>(), "Ends batching.")
      .def("count_on_from", &RequestPath::count_on_from, py::arg("before"),
           "Batching counts together with `before`, whose place this path takes.")
      .def("batching_stats", &RequestPath::batching_stats, "Counters of the batcher, or None without one.")
      .def("encode", &RequestPath::encode, py::arg("items"), py::arg("times") = none, py::arg("actions") = none,
           py::arg("offsets"), py::arg("now") = none, py::arg("threads") = 0,
           "(fused, interests, weights) of each user.")
      .def("repeat_bonus", &RequestPath::repeat_bonus, py::arg("items"), py::arg("times"), py::arg("offsets"),
           py::arg("now"), py::arg("newest"), py::arg("threads") = 0,
           "(rows, values, offsets): the distinct items of each history, ascending, and what their scores gain.")
      .def("recommend", &RequestPath::recommend, py::arg("items"), py::arg("times"), py::arg("actions"),
           py::arg("offsets"), py::arg("now"), py::arg("k"), py::arg("exclude_seen"), py::arg("exclude_items"),
           py::arg("exclude_offsets"), py::arg("allowed") = none, py::arg("balance") = -1.0, py::arg("timeout") = -1.0,
           py::arg("threads") = 0, py::arg("error_share") = 1.0, "(scores, indices, counts, long_share) of each user.")
      .def("new_state", &RequestPath::new_state, py::arg("model"), py::arg("remember"), "A state without events.")
      .def("append", &RequestPath::append, py::arg("model"), py::arg("states"), py::arg("items"), py::arg("times"),
           py::arg("actions"), py::arg("offsets"), py::arg("unknown"), py::arg("threads") = 0,
           "A new state for each, with the user's events at its end.")
      .def("prepend", &RequestPath::prepend, py::arg("model"), py::arg("older"), py::arg("newer"),
           "The state of the history of the one and then the other.")
      .def("seen_events", &RequestPath::seen_events, py::arg("states"),
           "(items, times, offsets) of the events each state still knows, oldest first; times: None but for `repeats`.")
      .def("encode_states", &RequestPath::encode_states, py::arg("states"), py::arg("now") = none,
           py::arg("threads") = 0, "(fused, interests, weights) of each state.")
      .def("recommend_states", &RequestPath::recommend_states, py::arg("states"), py::arg("now"), py::arg("k"),
           py::arg("exclude_seen"), py::arg("exclude_items"), py::arg("exclude_offsets"), py::arg("allowed") = none,
           py::arg("balance") = -1.0, py::arg("timeout") = -1.0, py::arg("threads") = 0, py::arg("error_share") = 1.0,
           "(scores, indices, counts, long_share) of each state.");
}

}  // namespace lsif::bindings
