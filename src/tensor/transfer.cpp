#include "tensor/transfer.h"

#include <memory>
#include <utility>

namespace ondol {

void upload(const Tensor& target, const Tensor& source) {
  ONDOL_CHECK(target.is_contiguous() && target.shape() == source.shape() && target.dtype() == source.dtype() &&
                  source.device().type == DeviceType::cpu,
              "[upload] ", source.shape(), " ", dtype_name(source.dtype()), " on ", to_string(source.device()),
              " into ", target.shape(), " ", dtype_name(target.dtype()));
  const Tensor bytes = source.contiguous();
  const Device device = target.device();
  backend(device.type)
      .upload(target.raw(), bytes.raw(), static_cast<size_t>(bytes.numel()) * dtype_size(bytes.dtype()), device);
}

PendingRead::PendingRead(const Tensor& tensor)
    : device_(tensor.device()),
      shape_(tensor.shape()),
      dtype_(tensor.dtype()),
      bytes_(static_cast<size_t>(tensor.numel()) * dtype_size(tensor.dtype())) {
  ONDOL_CHECK(tensor.is_contiguous(), "[read] the tensor ", tensor.shape(), " is not contiguous");
  download_ = backend(device_.type).start_download(tensor.raw(), bytes_, device_);
}

PendingRead::PendingRead(PendingRead&& other) noexcept
    : device_(other.device_),
      shape_(other.shape_),
      dtype_(other.dtype_),
      bytes_(other.bytes_),
      download_(std::exchange(other.download_, {})) {}

PendingRead::~PendingRead() {
  if (download_.data != nullptr) backend(device_.type).release_download(download_, device_);
}

Tensor PendingRead::wait_tensor() && {
  wait();
  if (bytes_ == 0) return Tensor::empty(shape_, dtype_);
  void* const data = download_.data;
  auto owner = std::make_shared<PendingRead>(std::move(*this));
  return Tensor::borrow(data, owner->shape_, owner->dtype_, [owner] {});
}

const std::byte* PendingRead::wait() {
  backend(device_.type).wait_download(download_, device_);
  return static_cast<const std::byte*>(download_.data);
}

}  // namespace ondol
