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

}  // namespace
