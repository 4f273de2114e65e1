// Catalogues with all kinds of data for which score_topk must be exact.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "engine/codes.h"
#include "engine/float_rows.h"
#include "engine/row_order.h"

namespace score_topk_test {

using lsif::CatalogView;

using Random = std::mt19937_64;

inline float normal(Random& random) { return std::normal_distribution<float>()(random); }

inline std::vector<float> normals(Random& random, int64_t size) {
  std::vector<float> x(static_cast<size_t>(size));
  for (float& value : x) value = normal(random);
  return x;
}

struct Catalog {
  int64_t num_items = 0;
  int64_t dim = 1;
  std::vector<float> vectors;  // the rows begin at element 1: aligned only to a float
  std::vector<float> bias;     // empty: no biases
  std::vector<uint8_t> codes;  // the codes begin at element 1

  Catalog(std::vector<float> rows, int64_t dim_, std::vector<float> bias_ = {})
      : num_items(static_cast<int64_t>(rows.size()) / dim_), dim(dim_), bias(std::move(bias_)) {
    vectors.assign(1, 0.0f);
    vectors.insert(vectors.end(), rows.begin(), rows.end());
    code({});
  }

  const float* biases() const { return bias.empty() ? nullptr : bias.data(); }

  void code(const std::vector<int32_t>& order, bool by_length = false) {
    codes.assign(1 + lsif::engine::codes_size(num_items, dim, !order.empty()), 0);
    lsif::engine::write_codes(vectors.data() + 1, biases(), num_items, dim, {order, by_length}, codes.data() + 1, 2);
  }

  // The same rows, coded in an order chosen by order_rows.
  Catalog ordered() const {
    const auto always = lsif::engine::Ordering::kAlways;
    const auto order = lsif::engine::order_rows(vectors.data() + 1, biases(), num_items, dim, always, 2);
    Catalog copy = *this;
    copy.code(order.rows, order.by_length);
    return copy;
  }

  CatalogView view() const {
    return {vectors.data() + 1, biases(),
            lsif::engine::view_codes(codes.data() + 1, static_cast<int64_t>(codes.size()) - 1, num_items, dim),
            num_items, dim};
  }
};

using Maker = std::function<std::vector<float>(Random&, int64_t num_rows, int64_t dim)>;

inline Maker scaled(float factor) {
  return [factor](Random& random, int64_t num_rows, int64_t dim) {
    std::vector<float> x = normals(random, num_rows * dim);
    for (float& value : x) value *= factor;
    return x;
  };
}

inline std::vector<float> make_clustered(Random& random, int64_t num_rows, int64_t dim) {
  const std::vector<float> centres = normals(random, 256 * dim);
  std::vector<float> x;
  for (int64_t row = 0; row < num_rows; ++row) {
    const int64_t centre = static_cast<int64_t>(random() % 256);
    const float norm = std::exp(normal(random));
    for (int64_t i = 0; i < dim; ++i) x.push_back(norm * (centres[centre * dim + i] + 0.3f * normal(random)));
  }
  return x;
}

// Random directions and varying lengths, which decide what must be scanned.
inline std::vector<float> make_long_and_short(Random& random, int64_t num_rows, int64_t dim) {
  std::vector<float> x = normals(random, num_rows * dim);
  for (int64_t row = 0; row < num_rows; ++row) {
    const float length = std::exp(0.3f * normal(random));
    for (int64_t i = 0; i < dim; ++i) x[row * dim + i] *= length;
  }
  return x;
}

inline std::vector<float> make_heavy_tailed(Random& random, int64_t num_rows, int64_t dim) {
  std::student_t_distribution<float> student(1.5f);
  std::vector<float> x(num_rows * dim);
  for (float& value : x) value = student(random);
  return x;
}

inline std::vector<float> make_duplicates(Random& random, int64_t num_rows, int64_t dim) {
  const std::vector<float> distinct = normals(random, 7 * dim);
  std::vector<float> x;
  for (int64_t row = 0; row < num_rows; ++row) {
    const auto first = distinct.begin() + static_cast<int64_t>(random() % 7) * dim;
    x.insert(x.end(), first, first + dim);
  }
  return x;
}

inline Maker constant(float value) {
  return [value](Random&, int64_t num_rows, int64_t dim) { return std::vector<float>(num_rows * dim, value); };
}

// Adjacent rows of very different sizes.
inline std::vector<float> make_mixed(Random& random, int64_t num_rows, int64_t dim) {
  const float sizes[] = {1e20f, 1e-20f, 1.0f, 0.0f, 1e-42f, 1e10f, 1e-5f};
  std::vector<float> x;
  for (int64_t row = 0; row < num_rows; ++row) {
    const float size = sizes[random() % 7];
    for (int64_t i = 0; i < dim; ++i) x.push_back(size * normal(random));
  }
  return x;
}

// Rows that equal their own codes: without quantisation error, the bounds have only their slack.
inline std::vector<float> make_integers(Random& random, int64_t num_rows, int64_t dim) {
  std::vector<float> x;
  for (int64_t row = 0; row < num_rows; ++row) {
    x.push_back(random() % 2 == 0 ? 127.0f : -127.0f);
    for (int64_t i = 1; i < dim; ++i) x.push_back(static_cast<float>(static_cast<int64_t>(random() % 255) - 127));
  }
  return x;
}

struct Kind {
  const char* name;
  Maker items;
  Maker queries;
  float bias;  // magnitude of the biases
};

inline std::vector<Kind> kinds() {
  return {
      {"gaussian", scaled(1), scaled(1), 1.0f},
      {"clustered", make_clustered, make_clustered, 1.0f},
      {"heavy tailed", make_heavy_tailed, make_heavy_tailed, 10.0f},
      {"duplicates", make_duplicates, scaled(1), 0.0f},
      {"constant", constant(0.7f), scaled(1), 0.0f},
      {"constant and bias", constant(0.7f), scaled(1), 1e-3f},
      {"integers", make_integers, make_integers, 1e4f},
      {"zero", constant(0.0f), scaled(1), 1.0f},
      {"zero queries", scaled(1), constant(0.0f), 1.0f},
      {"huge items", scaled(1e20f), scaled(1), 1e20f},
      {"huge products", scaled(1e20f), scaled(1e15f), 1e35f},
      {"huge times tiny", scaled(1e20f), scaled(1e-20f), 1.0f},
      {"tiny", scaled(1e-20f), scaled(1), 1e-20f},
      {"tiny times tiny", scaled(1e-20f), scaled(1e-20f), 1e-40f},
      {"denormal", scaled(1e-40f), scaled(1), 1e-40f},
      {"huge bias", scaled(1), scaled(1), 1e30f},
      {"huge bias, tiny items", scaled(1e-20f), scaled(1e-20f), 1e38f},
      {"mixed", make_mixed, scaled(1), 1.0f},
      {"mixed, huge queries", make_mixed, scaled(1e15f), 1.0f},
      {"mixed, tiny queries", make_mixed, scaled(1e-20f), 1e-10f},
  };
}

inline std::vector<float> make_bias(Random& random, int64_t num_items, float size) {
  std::vector<float> bias = normals(random, num_items);
  for (float& b : bias) b = std::clamp(b, -2.0f, 2.0f) * size;
  return bias;
}

}  // namespace score_topk_test
