#include <ondol/tensor/allocator.h>
#include <ondol/tensor/tensor.h>

#include <numeric>

#include <gtest/gtest.h>

/// Defined by the address sanitizer where a program is built with it.
extern "C" __attribute__((weak)) int __asan_address_is_poisoned(const volatile void* address);

namespace ondol {
namespace {

Tensor iota(const Shape& shape) {
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  std::iota(values.begin(), values.end(), 0.0f);
  return Tensor::from_vector(values, shape);
}

TEST(Tensor, ViewsShareStorage) {
  const Tensor a = iota({2, 3, 4});
  const Tensor column = a.select(2, 1);
  EXPECT_EQ(column.to_vector<float>(), (std::vector<float>{1, 5, 9, 13, 17, 21}));
  column.fill(-1);
  EXPECT_EQ(a.narrow(0, 0, 1).to_vector<float>(), (std::vector<float>{0, -1, 2, 3, 4, -1, 6, 7, 8, -1, 10, 11}));
}

TEST(Tensor, TheAddressSanitizerSeesItsBoundsAndItsEnd) {
  if (__asan_address_is_poisoned == nullptr) GTEST_SKIP() << "skipped: built without the address sanitizer";
  constexpr int64_t kBytes = 1001;
  const std::byte* data = nullptr;
  {
    const Tensor tensor = Tensor::empty({kBytes}, DType::u8);
    data = static_cast<const std::byte*>(tensor.raw());
    EXPECT_FALSE(__asan_address_is_poisoned(data + kBytes - 1));
    EXPECT_TRUE(__asan_address_is_poisoned(data + kBytes));
  }
  EXPECT_TRUE(__asan_address_is_poisoned(data));
}

TEST(Tensor, TransposeAndPermuteReorderElements) {
  const Tensor a = iota({2, 3});
  EXPECT_EQ(a.transpose(0, 1).to_vector<float>(), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  const Tensor b = iota({2, 2, 2}).permute({2, 0, 1});
  EXPECT_EQ(b.to_vector<float>(), (std::vector<float>{0, 2, 4, 6, 1, 3, 5, 7}));
  EXPECT_FALSE(b.is_contiguous());
  EXPECT_TRUE(b.contiguous().is_contiguous());
}

TEST(Tensor, ReshapeOfStridedViews) {
  const Tensor a = iota({4, 6}).narrow(1, 0, 4);  // rows of 4 inside rows of 6
  EXPECT_EQ(a.reshape({4, 2, 2}).to_vector<float>(), a.to_vector<float>());
  EXPECT_EQ(a.reshape({2, 2, 4}).to_vector<float>(), a.to_vector<float>());
  EXPECT_THROW(a.reshape({16}), Error);
  EXPECT_THROW(iota({2, 3}).transpose(0, 1).reshape({6}), Error);
  EXPECT_EQ(iota({2, 6}).reshape({-1, 4}).shape(), (Shape{3, 4}));
}

TEST(Tensor, ExpandBroadcasts) {
  const Tensor a = iota({3, 1}).expand({2, 3, 2});
  EXPECT_EQ(a.to_vector<float>(), (std::vector<float>{0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2}));
  EXPECT_THROW(iota({3}).expand({2}), Error);
}

TEST(Tensor, ConversionsBetweenDtypes) {
  const Tensor a = Tensor::from_vector<float>({1.0f, -2.5f, 1.00390625f, 3.0e38f}, {4});
  const std::vector<float> rounded = a.to(DType::bf16).to_vector<float>();
  EXPECT_EQ(rounded[2], 1.0f);  // half way: to even
  EXPECT_EQ(a.to(DType::f16).to_vector<float>()[1], -2.5f);
  EXPECT_EQ(a.to(DType::i64).to_vector<int64_t>()[1], -2);
}

TEST(Tensor, EmptyTensorsAndSizeOne) {
  const Tensor a = Tensor::zeros({0, 5});
  EXPECT_EQ(a.to_vector<float>().size(), 0u);
  EXPECT_EQ(a.reshape({5, 0}).numel(), 0);
  EXPECT_EQ(Tensor::full({}, 3.0).item(), 3.0);
}

TEST(Tensor, ErrorsNameShapes) {
  try {
    iota({2, 3}).narrow(1, 2, 2);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("(2, 3)"), std::string::npos);
  }
  EXPECT_THROW((Shape{1, 1, 1, 1, 1, 1, 1}), Error);
  EXPECT_THROW((Shape{int64_t{1} << 40, int64_t{1} << 40}), Error);
}

TEST(Allocator, BlocksAreReusedAndCounted) {
  const size_t before = memory_statistics({}).allocated;
  const void* first = nullptr;
  {
    const Tensor a = Tensor::empty({1000, 1000});
    first = a.raw();
    EXPECT_GE(memory_statistics({}).allocated, before + 4000000);
  }
  EXPECT_EQ(memory_statistics({}).allocated, before);
  EXPECT_EQ(Tensor::empty({1000, 1000}).raw(), first);
}

TEST(Tensor, BorrowedMemoryIsReleasedWithTheLastView) {
  float values[4] = {1, 2, 3, 4};
  int released = 0;
  {
    Tensor view;
    {
      const Tensor a = Tensor::borrow(values, {2, 2}, DType::f32, [&released] { ++released; });
      view = a.select(0, 1);
    }
    EXPECT_EQ(released, 0);
    EXPECT_EQ(view.to_vector<float>(), (std::vector<float>{3, 4}));
  }
  EXPECT_EQ(released, 1);
}

}  // namespace
}  // namespace ondol
