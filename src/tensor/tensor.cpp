// Handle, factories and copies of Tensor; the views are in tensor_views.cpp.
#include <ondol/tensor/tensor.h>

#include <algorithm>
#include <cstring>

#include "backend/backend.h"

namespace ondol {

Tensor::Tensor(const Tensor& other) noexcept
    : storage_(other.storage_), data_(other.data_), shape_(other.shape_), dtype_(other.dtype_) {
  std::copy_n(other.strides_, Shape::kMaxDims, strides_);
  if (storage_ != nullptr) storage_->retain();
}

Tensor::Tensor(Tensor&& other) noexcept
    : storage_(other.storage_), data_(other.data_), shape_(other.shape_), dtype_(other.dtype_) {
  std::copy_n(other.strides_, Shape::kMaxDims, strides_);
  other.storage_ = nullptr;
  other.data_ = nullptr;
}

Tensor& Tensor::operator=(const Tensor& other) noexcept {
  Tensor copy(other);
  return *this = std::move(copy);
}

Tensor& Tensor::operator=(Tensor&& other) noexcept {
  std::swap(storage_, other.storage_);
  std::swap(data_, other.data_);
  std::swap(shape_, other.shape_);
  std::swap(dtype_, other.dtype_);
  std::swap_ranges(strides_, strides_ + Shape::kMaxDims, other.strides_);
  return *this;
}

void Tensor::set_contiguous_strides() {
  int64_t stride = 1;
  for (int d = shape_.ndim() - 1; d >= 0; --d) {
    strides_[d] = stride;
    stride *= shape_[d];
  }
}

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  Tensor out;
  out.shape_ = shape;
  out.dtype_ = dtype;
  out.set_contiguous_strides();
  out.storage_ = Storage::allocate(static_cast<size_t>(shape.numel()) * dtype_size(dtype), device);
  out.data_ = out.storage_->data();
  return out;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) { return full(shape, 0.0, dtype, device); }

Tensor Tensor::full(const Shape& shape, double value, DType dtype, Device device) {
  Tensor out = empty(shape, dtype, device);
  out.fill(value);
  return out;
}

Tensor Tensor::from_bytes(const void* data, size_t count, const Shape& shape, DType dtype, Device device) {
  ONDOL_CHECK(static_cast<int64_t>(count) == shape.numel(), "shape ", shape, " does not hold ", count, " values");
  Tensor out = empty(shape, dtype, device);
  backend(device.type).copy_bytes(out.data_, data, count * dtype_size(dtype), device);
  return out;
}

Tensor Tensor::borrow(void* memory, const Shape& shape, DType dtype, std::function<void()> on_release) {
  Tensor out;
  out.shape_ = shape;
  out.dtype_ = dtype;
  out.set_contiguous_strides();
  out.storage_ =
      Storage::borrow(memory, static_cast<size_t>(shape.numel()) * dtype_size(dtype), {}, std::move(on_release));
  out.data_ = memory;
  return out;
}

bool Tensor::is_contiguous() const {
  int64_t expected = 1;
  for (int d = shape_.ndim() - 1; d >= 0; --d) {
    if (shape_[d] == 0) return true;
    if (shape_[d] != 1 && strides_[d] != expected) return false;
    expected *= shape_[d];
  }
  return true;
}

void Tensor::check_dtype(DType wanted) const {
  ONDOL_CHECK(dtype_ == wanted, "tensor ", shape_, " holds ", dtype_name(dtype_), ", not ", dtype_name(wanted));
}

void Tensor::fill(double value) const {
  if (numel() == 0) return;
  if (is_contiguous()) {
    run_kernel(&KernelTable::fill, device(), dtype_, FillArgs{data_, numel(), value});
  } else {
    copy_from(Tensor::full({1}, value, dtype_, device()));
  }
}

void Tensor::copy_from(const Tensor& source) const {
  ONDOL_CHECK(defined() && source.defined(), "[copy] undefined tensor");
  ONDOL_CHECK(source.device() == device(), "[copy] tensors are on ", to_string(source.device()), " and ",
              to_string(device()));
  const Tensor expanded = source.shape() == shape_ ? source : source.expand(shape_);
  if (numel() == 0) return;
  CopyArgs args{};
  args.in = expanded.data_;
  args.out = data_;
  args.in_dtype = expanded.dtype_;
  args.out_dtype = dtype_;
  args.ndim = ndim();
  for (int d = 0; d < ndim(); ++d) {
    args.shape[d] = shape_[d];
    args.in_stride[d] = expanded.strides_[d];
    args.out_stride[d] = strides_[d];
  }
  run_kernel(&KernelTable::copy, device(), expanded.dtype_, args);
}

Tensor Tensor::clone() const {
  Tensor out = empty(shape_, dtype_, device());
  out.copy_from(*this);
  return out;
}

Tensor Tensor::contiguous() const { return is_contiguous() ? *this : clone(); }

Tensor Tensor::to(DType dtype) const {
  if (dtype == dtype_) return *this;
  Tensor out = empty(shape_, dtype, device());
  out.copy_from(*this);
  return out;
}

Tensor Tensor::to(Device target) const {
  if (target == device()) return *this;
  const Tensor source = contiguous();
  Tensor out = empty(shape_, dtype_, target);
  const Device accelerator = target.type == DeviceType::cpu ? device() : target;
  backend(accelerator.type)
      .copy_bytes(out.data_, source.data_, static_cast<size_t>(numel()) * dtype_size(dtype_), accelerator);
  return out;
}

void Tensor::copy_to_host(void* out, DType dtype) const {
  ONDOL_CHECK(defined(), "undefined tensor");
  const Tensor converted = to(Device{}).to(dtype).contiguous();
  if (numel() > 0) std::memcpy(out, converted.data_, static_cast<size_t>(numel()) * dtype_size(dtype));
}

double Tensor::item() const {
  ONDOL_CHECK(numel() == 1, "item() needs one element, the tensor has shape ", shape_);
  return to_vector<double>()[0];
}

}  // namespace ondol
