#include "train/shard_layout.h"

#include <numeric>

#include <gtest/gtest.h>

namespace ondol {
namespace {

constexpr int64_t kBlock = ParameterStore::kBlock;

/// Matrices of less than a block, of blocks that no number of ranks divides, of several pieces; vectors; frozen ones.
void fill(ParameterStore& store) {
  store.add("bias", {5}, Init::zeros());
  store.add("tiny", {3, 7}, Init::zeros());
  store.add("frozen", {32, 32}, Init::zeros());
  store.add("even", {32, 96}, Init::zeros());
  store.add("odd", {7, 11 * 256}, Init::zeros());
  store.add("large", {ShardLayout::kPiece / 1024 + 3, 1024}, Init::zeros());
  store.add("norm", {100}, Init::zeros());
  store.set_trainable([](const ParameterStore::Entry& entry) { return entry.name != "frozen"; });
  store.materialize(DType::f32, {});
}

TEST(ShardLayout, KeepsEveryElementOnceOrEverywhere) {
  ParameterStore store;
  fill(store);
  for (const int ranks : {1, 2, 3, 4, 7, 64}) {
    std::vector<int> keepers(static_cast<size_t>(store.trainable_elements()));
    std::vector<int> owners(keepers.size());
    for (int rank = 0; rank < ranks; ++rank) {
      const ShardLayout layout(store, rank, ranks);
      int64_t next = 0, offset = 0, own = 0;
      for (const ShardRange& range : layout.ranges()) {
        EXPECT_EQ(range.begin, next);
        EXPECT_LE(range.end - range.begin, ShardLayout::kPiece);
        EXPECT_EQ(range.chunk % kBlock, 0);
        EXPECT_EQ(range.replicated, range.begin + ranks * range.chunk);
        EXPECT_LE(range.replicated, range.end);
        const bool is_matrix = range.begin < store.matrix_elements();
        EXPECT_TRUE(!is_matrix || range.end - range.replicated < ranks * kBlock);
        next = range.end;
      }
      EXPECT_EQ(next, store.trainable_elements());
      int64_t after = 0;
      for (const ShardPart& part : layout.parts()) {
        EXPECT_GE(part.begin, after);
        EXPECT_EQ(part.offset, offset);
        const ShardRange& range = layout.ranges()[part.range];
        EXPECT_GE(part.begin, range.begin);
        EXPECT_LE(part.begin + part.length, range.end);
        EXPECT_EQ(part.replicated, part.begin >= range.replicated);
        for (int64_t i = part.begin; i < part.begin + part.length; ++i) {
          ++keepers[static_cast<size_t>(i)];
          owners[static_cast<size_t>(i)] += part.replicated ? 0 : 1;
        }
        after = part.begin + part.length;
        offset += part.length;
        own += part.replicated ? 0 : part.length;
      }
      EXPECT_EQ(layout.shard_elements(), offset);
      EXPECT_EQ(layout.own_elements(), own);
    }
    for (size_t i = 0; i < keepers.size(); ++i) {
      ASSERT_EQ(keepers[i], owners[i] == 1 ? 1 : ranks) << "element " << i << " on " << ranks << " ranks";
    }
  }
}

TEST(ShardLayout, EveryMatrixIsARangeAndVectorsAreReplicated) {
  ParameterStore store;
  fill(store);
  const ShardLayout layout(store, 1, 2);
  std::vector<std::vector<int64_t>> places;
  for (const ShardRange& range : layout.ranges()) places.push_back({range.begin, range.end, range.chunk});
  const int64_t odd = kBlock + 3072, large = odd + 77 * kBlock, rest = large + ShardLayout::kPiece;
  const std::vector<std::vector<int64_t>> expected = {{0, kBlock, 0},
                                                      {kBlock, odd, 1536},
                                                      {odd, large, 38 * kBlock},
                                                      {large, rest, ShardLayout::kPiece / 2},
                                                      {rest, rest + 3072, 1536},
                                                      {rest + 3072, rest + 3072 + 16 + 112, 0}};
  EXPECT_EQ(places, expected);
  EXPECT_EQ(layout.own_elements(), 1536 + 38 * kBlock + ShardLayout::kPiece / 2 + 1536);
  EXPECT_EQ(layout.shard_elements(), layout.own_elements() + kBlock + kBlock + 128);
}

TEST(ShardLayout, AShardHoldsTheValuesOfItsParts) {
  ParameterStore store;
  store.add("w", {4, 256}, Init::zeros());
  store.add("b", {16}, Init::zeros());
  store.materialize(DType::f32, {});
  std::vector<float> values(1024 + 16);
  std::iota(values.begin(), values.end(), 0.0f);
  const Tensor flat = Tensor::from_vector(values, {1040});
  std::vector<float> expected(values.begin() + 256, values.begin() + 512);
  expected.insert(expected.end(), values.begin() + 768, values.end());
  EXPECT_EQ(ShardLayout(store, 1, 3).shard_of(flat).to_vector<float>(), expected);
}

TEST(ShardLayout, OneRankOwnsAllButTheVectors) {
  ParameterStore store;
  fill(store);
  const ShardLayout layout(store, 0, 1);
  EXPECT_EQ(layout.own_elements(), store.matrix_elements());
  EXPECT_EQ(layout.shard_elements(), store.trainable_elements());
  EXPECT_THROW(ShardLayout(store, 2, 2), Error);
}

}  // namespace
}  // namespace ondol
