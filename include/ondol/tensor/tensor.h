// Tensor: a cheap handle on strided elements in shared storage.
//
//   Tensor a = Tensor::zeros({2, 3});                    // f32 on the CPU
//   Tensor b = Tensor::from_vector<float>({1, 2, 3}, {3});
//   Tensor row = a.narrow(0, 1, 1);                      // a view: shares the elements
//   row.copy_from(b);                                    // writes into a
//   float x = a.to_vector<float>()[3];
//
// Views (narrow, transpose, reshape of contiguous data, expand) share storage; copies are explicit (contiguous, clone,
// to). Element counts, not bytes, everywhere. Errors are ondol::Error naming the shapes.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include <ondol/base/device.h>
#include <ondol/base/dtype.h>
#include <ondol/base/error.h>
#include <ondol/tensor/shape.h>

namespace ondol {

/// Reference-counted memory. Owned memory comes from the caching allocator; borrowed memory (a mapped file) runs
/// `on_release` at the end.
class Storage {
 public:
  static Storage* allocate(size_t bytes, Device device);
  static Storage* borrow(void* memory, size_t bytes, Device device, std::function<void()> on_release);

  void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy();
  }
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  bool unique() const { return references_.load(std::memory_order_acquire) == 1; }

 private:
  Storage() = default;
  ~Storage() = default;
  void destroy() noexcept;

  std::atomic<int> references_{1};
  void* data_ = nullptr;
  size_t bytes_ = 0;
  void* block_ = nullptr;  // of the allocator; null when borrowed
  Device device_;
  std::function<void()> on_release_;
};

class Tensor {
 public:
  Tensor() = default;
  Tensor(const Tensor& other) noexcept;
  Tensor(Tensor&& other) noexcept;
  Tensor& operator=(const Tensor& other) noexcept;
  Tensor& operator=(Tensor&& other) noexcept;
  ~Tensor() {
    if (storage_ != nullptr) storage_->release();
  }

  /// Uninitialised, contiguous.
  static Tensor empty(const Shape& shape, DType dtype = DType::f32, Device device = {});
  static Tensor zeros(const Shape& shape, DType dtype = DType::f32, Device device = {});
  static Tensor full(const Shape& shape, double value, DType dtype = DType::f32, Device device = {});
  /// Copies the values, in row-major order.
  template <class T>
  static Tensor from_vector(const std::vector<T>& values, const Shape& shape, Device device = {}) {
    return from_bytes(values.data(), values.size(), shape, dtype_of<T>::value, device);
  }
  /// Host memory that somebody else owns until on_release runs; read-only mappings must not be written to.
  static Tensor borrow(void* memory, const Shape& shape, DType dtype, std::function<void()> on_release);

  bool defined() const { return storage_ != nullptr; }
  explicit operator bool() const { return defined(); }
  const Shape& shape() const { return shape_; }
  int ndim() const { return shape_.ndim(); }
  int64_t size(int dim) const { return shape_[dim]; }
  int64_t stride(int dim) const { return strides_[shape_.normalize(dim)]; }
  int64_t numel() const { return shape_.numel(); }
  DType dtype() const { return dtype_; }
  Device device() const { return storage_ == nullptr ? Device{} : storage_->device(); }
  bool is_contiguous() const;
  /// True when no other Tensor shares the storage.
  bool unique() const { return storage_ != nullptr && storage_->unique(); }

  /// First element. The typed form throws when T is not the dtype.
  void* raw() const { return data_; }
  template <class T>
  T* data() const {
    check_dtype(dtype_of<T>::value);
    return static_cast<T*>(data_);
  }

  // Views.
  /// One size may be -1. Needs contiguous elements, or only splits and merges dimensions that strides allow.
  Tensor reshape(const Shape& shape) const;
  Tensor reshape(std::initializer_list<int64_t> sizes) const;
  Tensor transpose(int dim0, int dim1) const;
  Tensor permute(std::initializer_list<int> dims) const;
  Tensor narrow(int dim, int64_t start, int64_t length) const;
  /// narrow to one index and drop the dimension.
  Tensor select(int dim, int64_t index) const;
  /// Dimensions of size 1 (and missing leading ones) repeat with stride 0.
  Tensor expand(const Shape& shape) const;
  Tensor unsqueeze(int dim) const;
  Tensor squeeze(int dim) const;

  // Copies.
  Tensor contiguous() const;
  Tensor clone() const;
  Tensor to(DType dtype) const;
  Tensor to(Device device) const;
  /// Writes the elements of source (broadcast to this shape, converted to this dtype) into this view.
  void copy_from(const Tensor& source) const;
  void fill(double value) const;
  void zero() const { fill(0.0); }

  /// The elements in row-major order, converted to T, on the host.
  template <class T>
  std::vector<T> to_vector() const {
    std::vector<T> values(static_cast<size_t>(numel()));
    copy_to_host(values.data(), dtype_of<T>::value);
    return values;
  }
  /// The value of a tensor with one element.
  double item() const;

 private:
  static Tensor from_bytes(const void* data, size_t count, const Shape& shape, DType dtype, Device device);
  void copy_to_host(void* out, DType dtype) const;
  void check_dtype(DType wanted) const;
  void set_contiguous_strides();

  Storage* storage_ = nullptr;
  void* data_ = nullptr;
  Shape shape_;
  int64_t strides_[Shape::kMaxDims] = {};
  DType dtype_ = DType::f32;
};

}  // namespace ondol
