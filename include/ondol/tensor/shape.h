// Sizes of a tensor: up to six dimensions, kept inline.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace ondol {

class Shape {
 public:
  static constexpr int kMaxDims = 6;

  Shape() = default;
  /// Throws Error on more than kMaxDims dimensions, a negative size, or a product beyond 2^62.
  Shape(std::initializer_list<int64_t> sizes) : Shape(std::span<const int64_t>(sizes.begin(), sizes.size())) {}
  explicit Shape(std::span<const int64_t> sizes);

  int ndim() const { return ndim_; }
  /// Negative dimensions count from the end. Throws Error when out of range.
  int64_t operator[](int dim) const { return sizes_[normalize(dim)]; }
  void set(int dim, int64_t size) { sizes_[normalize(dim)] = size; }
  int64_t numel() const {
    int64_t product = 1;
    for (int d = 0; d < ndim_; ++d) product *= sizes_[d];
    return product;
  }
  const int64_t* begin() const { return sizes_; }
  const int64_t* end() const { return sizes_ + ndim_; }
  /// The index of a dimension given as -ndim .. ndim-1.
  int normalize(int dim) const;

  bool operator==(const Shape& other) const;

 private:
  int ndim_ = 0;
  int64_t sizes_[kMaxDims] = {};
};

/// "(2, 3, 4)".
std::string to_string(const Shape& shape);
std::ostream& operator<<(std::ostream& out, const Shape& shape);

}  // namespace ondol
