#include "check.h"
#include "guarded.h"
#include "oracle.h"
#include "tables.h"

namespace {

using guarded::Array;
using guarded::Matrix;

TEST(embedding_adds_the_rows_it_is_told) {
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    oracle::Random random(1);
    for (int64_t dim : {1, 3, 4, 7, 8, 16, 17, 31, 64}) {
      for (int64_t rows : {0, 1, 5}) {
        for (int64_t gap : {0, 3}) {
          for (int kind = 0; kind < 3; ++kind) {  // no actions, unknown actions, actions
            Matrix items(11, dim);
            Matrix actions(4, dim);
            items.fill([&] { return random.normal(); });
            actions.fill([&] { return random.normal(); });
            Array<int64_t> item(rows), action(rows);
            for (int64_t r = 0; r < rows; ++r) {
              item[r] = r == 0 ? 10 : random.integer(0, 10);
              action[r] = r == 0 ? 3 : random.integer(0, 3);
            }
            Matrix y(rows, dim, dim + gap);
            const lsif::EmbeddingParams params = {items.data(), kind == 0 ? nullptr : actions.data(), dim};
            table->embedding(params, item.data(), kind == 2 ? action.data() : nullptr, rows, y.data(), y.stride());
            CHECK(y.gaps_intact());
            for (int64_t r = 0; r < rows; ++r) {
              for (int64_t c = 0; c < dim; ++c) {
                const float second = kind == 0 ? 0.0f : actions.at(kind == 1 ? 0 : action[r], c);
                CHECK(y.at(r, c) == items.at(item[r], c) + second);
              }
            }
          }
        }
      }
    }
  }
}

TEST(embedding_widens_rows_in_bfloat16) {
  for (const lsif::cpu::KernelTable* table : lsif::cpu::tested_kernels()) {
    if (!lsif::cpu::has_bf16(*table)) continue;
    oracle::Random random(2);
    for (int64_t dim : {1, 3, 8, 15, 16, 31, 32, 33, 67, 96}) {
      Matrix items(11, dim);
      items.fill([&] { return oracle::to_bfloat16(random.normal()); });
      Array<uint16_t> rounded(11 * dim);
      for (int64_t i = 0; i < 11; ++i) lsif::to_bfloat16(items.row(i), dim, rounded.data() + i * dim);
      Array<int64_t> item(40);
      for (int64_t r = 0; r < 40; ++r) item[r] = r == 0 ? 10 : random.integer(0, 10);
      Matrix y(40, dim, dim + 3);
      const lsif::EmbeddingParams params = {nullptr, nullptr, dim, rounded.data()};
      table->embedding(params, item.data(), nullptr, 40, y.data(), y.stride());
      CHECK(y.gaps_intact());
      for (int64_t r = 0; r < 40; ++r) CHECK(guarded::same_bits(y, r, items, item[r]));
    }
  }
}

}  // namespace
