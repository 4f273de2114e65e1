// What launchers do beyond the CPU kernels: batches of sequences, packing, and refusals.
#include "check.h"
#include "device_array.h"
#include "guarded.h"
#include "kernels/cuda/launch.h"
#include "oracle.h"
#include "tables.h"

namespace {

using device::Array;
using device::expect_success;
using guarded::Matrix;

TEST(pack_linear_gives_the_cpu_layout) {
  oracle::Random random(1);
  for (const int64_t in_dim : {1, 3, 64}) {
    for (const int64_t out_dim : {1, 16, 17, 100}) {
      Matrix weight(out_dim, in_dim);
      weight.fill([&] { return random.normal(); });
      const int64_t size = lsif::packed_linear_size(in_dim, out_dim);
      std::vector<float> expected(size), packed(size);
      lsif::pack_linear(weight.data(), in_dim, out_dim, expected.data());
      const Array<float> on_device(weight.data(), in_dim * out_dim);
      const Array<float> out(size);
      expect_success(lsif::cuda::pack_linear(on_device.data(), in_dim, out_dim, out.data(), nullptr));
      out.copy_to(packed.data());
      CHECK(packed == expected);
      const int64_t bf16_size = lsif::packed_bf16_size(in_dim, out_dim);
      std::vector<uint16_t> expected_bf16(bf16_size), packed_bf16(bf16_size);
      lsif::pack_linear_bf16(weight.data(), in_dim, out_dim, expected_bf16.data());
      const Array<uint16_t> out_bf16(bf16_size);
      expect_success(lsif::cuda::pack_linear_bf16(on_device.data(), in_dim, out_dim, out_bf16.data(), nullptr));
      out_bf16.copy_to(packed_bf16.data());
      CHECK(packed_bf16 == expected_bf16);
    }
  }
}

TEST(heads_too_wide_for_bfloat16_are_refused) {
  lsif::AttentionParams attention = {lsif::AttentionKind::kSoftmax, 1, 129, 3, nullptr, nullptr, nullptr, 0};
  attention.bf16 = true;
  CHECK(lsif::cuda::attention(attention, {}, nullptr, 0, nullptr, 4, nullptr) == cudaErrorInvalidValue);
}

// A batch gives each sequence what it gets alone, bit for bit.
void check_batch(bool attention_in_bf16) {
  oracle::Random random(2);
  const std::vector<int64_t> offsets = {0, 0, 1, 40, 40, 190, 191};
  const auto batch = static_cast<int64_t>(offsets.size()) - 1;
  const int64_t total = offsets.back();
  constexpr int64_t kHeads = 2, kDim = 10, kInterests = 3;
  Matrix q(total, kDim), k(total, kDim), v(total, kDim), position(kHeads, 30), time(kHeads, 5), y(total, kDim);
  for (Matrix* matrix : {&q, &k, &v, &position, &time}) matrix->fill([&] { return random.normal(); });
  const std::vector<int64_t> boundaries = {1, 60, 3600};
  std::vector<int64_t> times;
  for (int64_t i = 0; i < total; ++i) times.push_back(random.integer(0, 9) == 0 ? lsif::kUnknownTime : i * 50);
  const Array<float> on_q(q.data(), total * kDim), on_k(k.data(), total * kDim), on_v(v.data(), total * kDim);
  const Array<float> on_position(position.data(), kHeads * 30), on_time(time.data(), kHeads * 5), out(total * kDim);
  const Array<int64_t> on_boundaries(boundaries.data(), 3), on_times(times.data(), total);
  const Array<int64_t> on_offsets(offsets.data(), batch + 1);
  lsif::AttentionParams params = {
      lsif::AttentionKind::kSoftmax, kHeads, kDim / kHeads, 30, position.data(), time.data(), boundaries.data(), 3};
  params.bf16 = attention_in_bf16;
  const lsif::AttentionInput input = {q.data(), k.data(), v.data(), kDim, kDim, times.data(), times.data(), total};
  lsif::AttentionParams on_params = params;
  on_params.position_bias = on_position.data();
  on_params.time_bias = on_time.data();
  on_params.time_boundaries = on_boundaries.data();
  const lsif::AttentionInput on_input = {on_q.data(), on_k.data(),     on_v.data(),     kDim,
                                         kDim,        on_times.data(), on_times.data(), total};
  expect_success(lsif::cuda::attention(on_params, on_input, on_offsets.data(), batch, out.data(), kDim, nullptr));
  out.copy_to(y.data());

  Matrix hidden(7, kDim), logits(kInterests, 7), decay(1, kInterests), pooled(batch * kInterests, kDim);
  for (Matrix* matrix : {&hidden, &logits}) matrix->fill([&] { return random.normal(); });
  decay.fill([&] { return static_cast<float>(random.uniform()); });
  guarded::Array<float> packed_hidden(lsif::packed_linear_size(kDim, 7));
  guarded::Array<float> packed_logits(lsif::packed_linear_size(7, kInterests));
  lsif::pack_linear(hidden.data(), kDim, 7, packed_hidden.data());
  lsif::pack_linear(logits.data(), 7, kInterests, packed_logits.data());
  const lsif::InterestPoolingParams pooling = {
      {packed_hidden.data(), nullptr, kDim, 7, lsif::Activation::kSilu},
      {packed_logits.data(), nullptr, 7, kInterests, lsif::Activation::kIdentity},
      decay.data()};
  const Array<float> on_hidden(packed_hidden.data(), packed_hidden.size());
  const Array<float> on_logits(packed_logits.data(), packed_logits.size());
  const Array<float> on_decay(decay.data(), kInterests), on_pooled(batch * kInterests * kDim);
  lsif::InterestPoolingParams on_pooling = pooling;
  on_pooling.hidden.packed = on_hidden.data();
  on_pooling.logits.packed = on_logits.data();
  on_pooling.decay = on_decay.data();
  const Array<float> scratch(lsif::cuda::interest_pooling_scratch_size(pooling, total));
  expect_success(lsif::cuda::interest_pooling(on_pooling, on_q.data(), kDim, on_times.data(), nullptr,
                                              on_offsets.data(), batch, total, on_pooled.data(), scratch.data(),
                                              nullptr));
  on_pooled.copy_to(pooled.data());
  const lsif::cpu::KernelTable& alone = lsif::cpu::cuda_kernels();
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t first = offsets[b];
    const int64_t length = offsets[b + 1] - first;
    lsif::AttentionInput one = input;
    one.q += first * kDim, one.k += first * kDim, one.v += first * kDim;
    one.times += first, one.query_times += first, one.seq_len = length;
    Matrix rows(length, kDim), interests(kInterests, kDim);
    alone.attention(params, one, 0, rows.data(), kDim, nullptr);
    for (int64_t i = 0; i < length; ++i) CHECK(guarded::same_bits(rows, i, y, first + i));
    const int64_t newest = length == 0 ? lsif::kUnknownTime : times[offsets[b + 1] - 1];
    alone.interest_pooling(pooling, q.row(first), kDim, times.data() + first, newest, length, interests.data(),
                           nullptr);
    for (int64_t a = 0; a < kInterests; ++a) CHECK(guarded::same_bits(interests, a, pooled, b * kInterests + a));
  }
}

TEST(a_batch_of_sequences_is_its_sequences) {
  check_batch(false);
  check_batch(true);
}

}  // namespace
