#include <ondol/io/tensor_slices.h>

#include <gtest/gtest.h>

#include "support/temporary_directory.h"

namespace ondol {
namespace {

Tensor counting(const Shape& shape, DType dtype = DType::f32) {
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 4096);
  return Tensor::from_vector(values, shape).to(dtype);
}

/// How often each element of the whole is written by all processes, and that the values are those of `whole`.
std::vector<int> writes(const Tensor& whole, int ranks, int64_t number,
                        const std::function<TensorSlices(int rank)>& slices) {
  const std::vector<float> expected = whole.to_vector<float>();
  std::vector<int> count(expected.size());
  for (int rank = 0; rank < ranks; ++rank) {
    for (const TensorPart& part : own_share(slices(rank), number, rank, ranks)) {
      const std::vector<float> values = part.values.to_vector<float>();
      const int64_t run = part.run(), stride = part.stride == 0 ? run : part.stride;
      for (int64_t i = 0; i < part.values.numel(); ++i) {
        const auto place = static_cast<size_t>(part.begin + i / run * stride + i % run);
        EXPECT_EQ(values[static_cast<size_t>(i)], expected[place]);
        ++count[place];
      }
    }
  }
  return count;
}

std::vector<int> once(const Tensor& whole) { return std::vector<int>(static_cast<size_t>(whole.numel()), 1); }

TEST(TensorSlices, WhatAllHaveIsWrittenOnce) {
  for (const Tensor& whole : {counting({}), counting({5}), counting({3, 7}), counting({1 << 20}), counting({700, 1024}),
                              counting({600, 700}).transpose(0, 1), counting({2, 600, 500}).permute({1, 0, 2})}) {
    for (const int ranks : {1, 2, 3, 4}) {
      for (const int64_t number : {0, 1, 7}) {
        EXPECT_EQ(writes(whole, ranks, number, [&](int) { return whole_tensor("x", whole); }), once(whole))
            << whole.shape() << " on " << ranks;
      }
    }
  }
}

TEST(TensorSlices, LargeTensorsAreSharedOutEvenlySmallOnesInTurn) {
  const TensorSlices large = whole_tensor("x", counting({1024, 2048}));
  for (int rank = 0; rank < 4; ++rank) {
    const auto mine = own_share(large, 0, rank, 4);
    ASSERT_EQ(mine.size(), 1u);
    EXPECT_EQ(mine[0].values.numel(), 512 * 1024);
  }
  const TensorSlices small = whole_tensor("x", counting({10}));
  int writers[3] = {};
  for (int64_t number = 0; number < 3; ++number) {
    for (int rank = 0; rank < 3; ++rank) writers[rank] += static_cast<int>(own_share(small, number, rank, 3).size());
  }
  for (const int count : writers) EXPECT_EQ(count, 1);
}

/// Rows are split between the two ranks of a tensor group, columns of the rest; two groups hold the same.
TEST(TensorSlices, PartsOfGroupsAndBlocksOfColumns) {
  const Tensor whole = counting({600, 1000});
  EXPECT_EQ(writes(whole, 4, 3,
                   [&](int rank) {
                     TensorSlices slices{"x", whole.shape(), whole.dtype(), {}};
                     const int64_t place = rank % 2;
                     slices.parts.push_back({.begin = place * 200 * 1000,
                                             .values = whole.narrow(0, place * 200, 200),
                                             .copies = 2,
                                             .copy = rank / 2});
                     slices.parts.push_back({.begin = 400 * 1000 + place * 500,
                                             .values = whole.narrow(0, 400, 200).narrow(1, place * 500, 500),
                                             .stride = 1000,
                                             .copies = 2,
                                             .copy = rank / 2});
                     return slices;
                   }),
            once(whole));
}

TEST(TensorSlices, PartsThatDoNotFitAreRefused) {
  const auto share = [](const TensorPart& part) { return own_share({"x", {10, 10}, DType::f32, {part}}, 0, 0, 1); };
  EXPECT_EQ(share({.begin = 90, .values = counting({10})}).size(), 1u);
  EXPECT_EQ(share({.begin = 5, .values = counting({10, 5}), .stride = 10}).size(), 1u);
  EXPECT_THROW(share({.begin = 91, .values = counting({10})}), Error);
  EXPECT_THROW(share({.begin = -1, .values = counting({10})}), Error);
  EXPECT_THROW(share({.begin = 6, .values = counting({10, 5}), .stride = 10}), Error);
  EXPECT_THROW(share({.begin = 0, .values = counting({10, 5}), .stride = 4}), Error);
  EXPECT_THROW(share({.begin = 0, .values = {}}), Error);
}

TEST(TensorSlices, AreReadFromAFile) {
  const testing::TemporaryDirectory directory;
  const Tensor whole = counting({40, 50});
  write_safetensors(directory / "x.safetensors", {{"x", whole}});
  const SafetensorsFile file(directory / "x.safetensors");
  TensorSlices slices{"x", whole.shape(), whole.dtype(), {}};
  slices.parts.push_back({.begin = 300, .values = Tensor::zeros({77})});
  slices.parts.push_back({.begin = 1010, .values = Tensor::zeros({10, 5}), .stride = 50});
  const Tensor turned = Tensor::zeros({50, 3}).transpose(0, 1);
  slices.parts.push_back({.begin = 1850, .values = turned});
  read_slices(file, slices);
  EXPECT_EQ(slices.parts[0].values.to_vector<float>(), whole.reshape({2000}).narrow(0, 300, 77).to_vector<float>());
  EXPECT_EQ(slices.parts[1].values.to_vector<float>(), whole.narrow(0, 20, 10).narrow(1, 10, 5).to_vector<float>());
  EXPECT_EQ(turned.to_vector<float>(), whole.narrow(0, 37, 3).to_vector<float>());
  slices.shape = {50, 40};
  EXPECT_THROW(read_slices(file, slices), Error);
}

}  // namespace
}  // namespace ondol
