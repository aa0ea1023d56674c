#include "train/device_batch.h"

#include <vector>

#include "tensor/transfer.h"

namespace ondol {

namespace {

Tensor default_positions(const Shape& shape) {
  const int64_t length = shape[-1];
  std::vector<int32_t> positions(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int32_t>(static_cast<int64_t>(i) % length);
  return Tensor::from_vector(positions, shape);
}

}  // namespace

void DeviceBatch::place(Tensor& target, const Tensor& source) const {
  if (!source.defined()) {
    target = Tensor();
    return;
  }
  if (!target.defined() || target.shape() != source.shape() || target.dtype() != source.dtype()) {
    target = Tensor::empty(source.shape(), source.dtype(), device_);
  }
  upload(target, source);
}

void DeviceBatch::load(const Batch& host) {
  if (device_.type == DeviceType::cpu) {
    batch_ = host;
    return;
  }
  place(batch_.input_ids, host.input_ids);
  place(batch_.labels, host.labels);
  place(batch_.attention_mask, host.attention_mask);
  place(batch_.document_ids, host.document_ids);
  place(batch_.positions, host.positions.defined() ? host.positions : default_positions(host.input_ids.shape()));
  bool same_names = batch_.others.size() == host.others.size();
  for (size_t i = 0; same_names && i < host.others.size(); ++i) {
    same_names = batch_.others[i].first == host.others[i].first;
  }
  if (!same_names) {
    batch_.others.clear();
    for (const auto& [name, tensor] : host.others) batch_.others.emplace_back(name, Tensor());
  }
  for (size_t i = 0; i < host.others.size(); ++i) place(batch_.others[i].second, host.others[i].second);
  batch_.labels_shifted = host.labels_shifted;
  batch_.first_sample = host.first_sample;
}

std::string DeviceBatch::layout() const {
  std::string text;
  const auto add = [&text](const std::string& name, const Tensor& tensor) {
    if (tensor.defined()) text += concat(" ", name, " ", tensor.shape(), " ", dtype_name(tensor.dtype()));
  };
  add("input_ids", batch_.input_ids);
  add("labels", batch_.labels);
  add("attention_mask", batch_.attention_mask);
  add("document_ids", batch_.document_ids);
  add("positions", batch_.positions);
  for (const auto& [name, tensor] : batch_.others) add(name, tensor);
  return text;
}

}  // namespace ondol
