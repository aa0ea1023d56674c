// The parts of all ranks together are the tensors of the files.
#include <gtest/gtest.h>

#include "train/held_parts.h"

namespace ondol {
namespace {

/// Writes the values of a part to their places, and counts.
void place(const TensorPart& part, std::vector<float>& tensor, std::vector<int>& counts) {
  const int64_t runs = part.values.size(0), run = part.run(), stride = part.stride == 0 ? run : part.stride;
  const std::vector<float> values = part.values.to_vector<float>();
  for (int64_t i = 0; i < runs; ++i) {
    for (int64_t j = 0; j < run; ++j) {
      const auto to = static_cast<size_t>(part.begin + i * stride + j);
      ASSERT_LT(to, tensor.size());
      tensor[to] = values[static_cast<size_t>(i * run + j)];
      ++counts[to];
    }
  }
}

TEST(HeldParts, OfAllRanksAreTheTensor) {
  ParameterStore store;
  const Variable matrix = store.add("matrix", {70, 37}, Init::normal(1.0f));
  const Variable fused = store.add("fused", {96, 40}, Init::normal(1.0f));
  const Variable cube = store.add("cube", {5, 30, 20}, Init::normal(1.0f));
  const Variable vector = store.add("vector", {50}, Init::normal(1.0f));
  const Variable frozen = store.add("frozen", {40, 40}, Init::normal(1.0f));
  const Variable buffer = store.add_buffer("buffer", {1, 7}, Init::normal(1.0f));
  store.set_trainable([](const ParameterStore::Entry& entry) { return entry.name != "frozen"; });
  store.materialize(DType::f32, {});
  store.initialize(3);
  const std::vector<WeightSlot> slots = {
      {"matrix", matrix, 0, -1, false, {70, 37}}, {"transposed", matrix, 0, -1, true, {37, 70}},
      {"q", fused, 0, 32, false, {32, 40}},       {"k", fused, 32, 16, false, {16, 40}},
      {"v", fused, 48, 48, true, {40, 48}},       {"cube", cube, 0, -1, false, {5, 30, 20}},
      {"vector", vector, 0, -1, false, {50}},     {"bias.k", vector, 20, 10, false, {10}},
      {"frozen", frozen, 0, -1, true, {40, 40}},  {"buffer", buffer, 0, -1, false, {1, 7}},
      {"one row", matrix, 69, 1, true, {37, 1}},
  };
  for (const int ranks : {1, 2, 3, 4}) {
    size_t shared = 0;
    for (const WeightSlot& slot : slots) {
      const auto size = static_cast<size_t>(slot.shape.numel());
      std::vector<float> tensor(size);
      std::vector<int> counts(size);
      for (int rank = 0; rank < ranks; ++rank) {
        const ShardLayout layout(store, rank, ranks);
        for (const TensorPart& part : held_parts(store, layout, slot)) {
          EXPECT_LE(part.copies, 1);
          shared += part.copies == 1;
          if (part.copies == 1 || rank == 0) place(part, tensor, counts);
        }
      }
      EXPECT_EQ(tensor, slot.view(slot.parameter.value()).to_vector<float>()) << slot.name << " on " << ranks;
      EXPECT_EQ(counts, std::vector<int>(size, 1)) << slot.name << " on " << ranks;
    }
    EXPECT_GE(shared, 5u) << ranks;
  }
}

}  // namespace
}  // namespace ondol
