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

void place_tensor(Tensor& target, const Tensor& source, Device device) {
  if (!source.defined()) {
    target = Tensor();
    return;
  }
  if (!target.defined() || target.shape() != source.shape() || target.dtype() != source.dtype()) {
    target = Tensor::empty(source.shape(), source.dtype(), device);
  }
  upload(target, source);
}

}  // namespace

void DeviceBatch::place(Batch& target, const Batch& source) const {
  const auto put = [this](Tensor& there, const Tensor& here) { place_tensor(there, here, device_); };
  put(target.input_ids, source.input_ids);
  put(target.labels, source.labels);
  put(target.attention_mask, source.attention_mask);
  put(target.document_ids, source.document_ids);
  put(target.positions, source.positions.defined() ? source.positions : default_positions(source.input_ids.shape()));
  bool same_names = target.others.size() == source.others.size();
  for (size_t i = 0; same_names && i < source.others.size(); ++i) {
    same_names = target.others[i].first == source.others[i].first;
  }
  if (!same_names) {
    target.others.clear();
    for (const auto& [name, tensor] : source.others) target.others.emplace_back(name, Tensor());
  }
  for (size_t i = 0; i < source.others.size(); ++i) put(target.others[i].second, source.others[i].second);
  target.labels_shifted = source.labels_shifted;
  target.first_sample = source.first_sample;
}

void DeviceBatch::load(const std::vector<Batch>& host) {
  if (device_.type == DeviceType::cpu) {
    micro_batches_ = host;
    return;
  }
  micro_batches_.resize(host.size());
  for (size_t i = 0; i < host.size(); ++i) place(micro_batches_[i], host[i]);
}

std::string DeviceBatch::layout() const {
  std::string text;
  const auto add = [&text](const std::string& name, const Tensor& tensor) {
    if (tensor.defined()) text += concat(" ", name, " ", tensor.shape(), " ", dtype_name(tensor.dtype()));
  };
  for (const Batch& batch : micro_batches_) {
    text += ";";
    add("input_ids", batch.input_ids);
    add("labels", batch.labels);
    add("attention_mask", batch.attention_mask);
    add("document_ids", batch.document_ids);
    add("positions", batch.positions);
    for (const auto& [name, tensor] : batch.others) add(name, tensor);
  }
  return text;
}

}  // namespace ondol
