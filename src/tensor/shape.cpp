#include <ondol/tensor/shape.h>

#include <algorithm>
#include <ostream>

#include <ondol/base/error.h>

namespace ondol {

Shape::Shape(std::span<const int64_t> sizes) : ndim_(static_cast<int>(sizes.size())) {
  ONDOL_CHECK(sizes.size() <= kMaxDims, "a tensor has at most ", kMaxDims, " dimensions, got ", sizes.size());
  int64_t product = 1;
  for (int d = 0; d < ndim_; ++d) {
    ONDOL_CHECK(sizes[d] >= 0, "negative size ", sizes[d], " in dimension ", d);
    sizes_[d] = sizes[d];
    if (sizes[d] > 1) {
      ONDOL_CHECK(product <= (int64_t{1} << 62) / sizes[d], "shape has too many elements");
      product *= sizes[d];
    }
  }
}

int Shape::normalize(int dim) const {
  const int index = dim < 0 ? dim + ndim_ : dim;
  ONDOL_CHECK(index >= 0 && index < ndim_, "dimension ", dim, " is out of range for shape ", to_string(*this));
  return index;
}

bool Shape::operator==(const Shape& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }

std::string to_string(const Shape& shape) {
  std::string out = "(";
  for (int d = 0; d < shape.ndim(); ++d) out += (d > 0 ? ", " : "") + std::to_string(shape[d]);
  return out + ")";
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << to_string(shape); }

}  // namespace ondol
