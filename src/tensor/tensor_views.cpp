#include <algorithm>
#include <vector>

#include <ondol/tensor/tensor.h>

namespace ondol {

namespace {

Shape resolve_minus_one(std::span<const int64_t> sizes, int64_t numel, const Shape& from) {
  std::vector<int64_t> resolved(sizes.begin(), sizes.end());
  int64_t known = 1;
  int unknown = -1;
  for (size_t d = 0; d < resolved.size(); ++d) {
    if (resolved[d] == -1) {
      ONDOL_CHECK(unknown < 0, "reshape: more than one -1");
      unknown = static_cast<int>(d);
    } else {
      known *= resolved[d];
    }
  }
  if (unknown >= 0) {
    ONDOL_CHECK(known > 0 && numel % known == 0, "reshape: ", from, " does not divide into the given sizes");
    resolved[static_cast<size_t>(unknown)] = numel / known;
  }
  return Shape(std::span<const int64_t>(resolved));
}

}  // namespace

Tensor Tensor::reshape(std::initializer_list<int64_t> sizes) const {
  return reshape(resolve_minus_one({sizes.begin(), sizes.size()}, numel(), shape_));
}

Tensor Tensor::reshape(const Shape& shape) const {
  ONDOL_CHECK(shape.numel() == numel(), "reshape: ", shape_, " and ", shape, " have different sizes");
  Tensor out = *this;
  out.shape_ = shape;
  if (is_contiguous()) {
    out.set_contiguous_strides();
    return out;
  }
  // Walk both shapes from the right; a group of old dimensions must be dense to be divided anew.
  int old_dim = ndim() - 1;
  int new_dim = shape.ndim() - 1;
  while (new_dim >= 0) {
    while (old_dim >= 0 && shape_[old_dim] == 1) --old_dim;
    if (old_dim < 0) {
      out.strides_[new_dim--] = 1;
      continue;
    }
    int64_t old_size = shape_[old_dim];
    int64_t stride = strides_[old_dim];
    int64_t new_size = 1;
    while (new_dim >= 0 && new_size < old_size) {
      out.strides_[new_dim] = stride * new_size;
      new_size *= shape[new_dim--];
      while (new_size > old_size && old_dim > 0) {
        --old_dim;
        ONDOL_CHECK(shape_[old_dim] == 1 || strides_[old_dim] == stride * old_size, "reshape: ", shape_, " to ", shape,
                    " needs a copy; call contiguous() first");
        old_size *= shape_[old_dim];
      }
    }
    ONDOL_CHECK(new_size == old_size, "reshape: ", shape_, " to ", shape, " needs a copy; call contiguous() first");
    --old_dim;
  }
  return out;
}

Tensor Tensor::transpose(int dim0, int dim1) const {
  const int a = shape_.normalize(dim0);
  const int b = shape_.normalize(dim1);
  Tensor out = *this;
  out.shape_.set(a, shape_[b]);
  out.shape_.set(b, shape_[a]);
  std::swap(out.strides_[a], out.strides_[b]);
  return out;
}

Tensor Tensor::permute(std::initializer_list<int> dims) const {
  ONDOL_CHECK(static_cast<int>(dims.size()) == ndim(), "permute: ", dims.size(), " dimensions for shape ", shape_);
  Tensor out = *this;
  bool seen[Shape::kMaxDims] = {};
  int d = 0;
  for (const int dim : dims) {
    const int from = shape_.normalize(dim);
    ONDOL_CHECK(!seen[from], "permute: dimension ", dim, " appears twice");
    seen[from] = true;
    out.shape_.set(d, shape_[from]);
    out.strides_[d++] = strides_[from];
  }
  return out;
}

Tensor Tensor::narrow(int dim, int64_t start, int64_t length) const {
  const int d = shape_.normalize(dim);
  ONDOL_CHECK(start >= 0 && length >= 0 && start <= shape_[d] - length, "narrow: [", start, ", ", start + length,
              ") is outside dimension ", d, " of shape ", shape_);
  Tensor out = *this;
  out.shape_.set(d, length);
  out.data_ = static_cast<char*>(data_) + start * strides_[d] * static_cast<int64_t>(dtype_size(dtype_));
  return out;
}

Tensor Tensor::select(int dim, int64_t index) const {
  const int d = shape_.normalize(dim);
  ONDOL_CHECK(index >= 0 && index < shape_[d], "select: index ", index, " is outside dimension ", d, " of shape ",
              shape_);
  return narrow(d, index, 1).squeeze(d);
}

Tensor Tensor::expand(const Shape& shape) const {
  ONDOL_CHECK(shape.ndim() >= ndim(), "expand: ", shape_, " does not broadcast to ", shape);
  Tensor out = *this;
  out.shape_ = shape;
  const int missing = shape.ndim() - ndim();
  for (int d = shape.ndim() - 1; d >= 0; --d) {
    const int from = d - missing;
    const bool repeats = from < 0 || (shape_[from] == 1 && shape[d] != 1);
    ONDOL_CHECK(repeats || shape_[from] == shape[d], "expand: ", shape_, " does not broadcast to ", shape);
    out.strides_[d] = repeats ? 0 : strides_[from];
  }
  return out;
}

Tensor Tensor::unsqueeze(int dim) const {
  const int at = dim < 0 ? dim + ndim() + 1 : dim;
  ONDOL_CHECK(at >= 0 && at <= ndim() && ndim() < Shape::kMaxDims, "unsqueeze: dimension ", dim,
              " is out of range for shape ", shape_);
  std::vector<int64_t> sizes(shape_.begin(), shape_.end());
  std::vector<int64_t> strides(strides_, strides_ + ndim());
  const bool last = at == ndim();
  strides.insert(strides.begin() + at, last ? 1 : strides_[at] * shape_[at]);
  sizes.insert(sizes.begin() + at, 1);
  Tensor out = *this;
  out.shape_ = Shape(std::span<const int64_t>(sizes));
  std::copy(strides.begin(), strides.end(), out.strides_);
  return out;
}

Tensor Tensor::squeeze(int dim) const {
  const int d = shape_.normalize(dim);
  ONDOL_CHECK(shape_[d] == 1, "squeeze: dimension ", d, " of shape ", shape_, " is not 1");
  Tensor out = *this;
  std::vector<int64_t> sizes(shape_.begin(), shape_.end());
  sizes.erase(sizes.begin() + d);
  out.shape_ = Shape(std::span<const int64_t>(sizes));
  for (int i = d; i + 1 < ndim(); ++i) out.strides_[i] = strides_[i + 1];
  return out;
}

}  // namespace ondol
