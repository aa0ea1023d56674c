#include <ondol/data/batch.h>

#include <algorithm>

#include <ondol/base/error.h>

namespace ondol {

const Tensor* Batch::find(std::string_view name) const {
  for (const auto& [other, tensor] : others) {
    if (other == name) return &tensor;
  }
  return nullptr;
}

Tensor* Batch::find(std::string_view name) { return const_cast<Tensor*>(static_cast<const Batch*>(this)->find(name)); }

int64_t Batch::count_targets() const {
  if (!labels.defined() || labels.dtype() != DType::i32) return 0;
  const std::vector<int32_t> values = labels.to_vector<int32_t>();
  return static_cast<int64_t>(values.size()) - std::count(values.begin(), values.end(), kIgnoreIndex);
}

int64_t Batch::count_tokens() const {
  const auto count = [](const Tensor& ids, const Tensor& mask) {
    if (!mask.defined()) return ids.defined() ? ids.numel() : 0;
    const std::vector<uint8_t> values = mask.to_vector<uint8_t>();
    return static_cast<int64_t>(values.size()) - std::count(values.begin(), values.end(), uint8_t{0});
  };
  const auto other = [this](const char* name) {
    const Tensor* found = find(name);
    return found != nullptr ? *found : Tensor();
  };
  return count(input_ids, attention_mask) + count(other("decoder_input_ids"), other("decoder_attention_mask"));
}

Batch Batch::rows(int64_t begin, int64_t count) const {
  const auto part = [&](const Tensor& tensor) { return tensor.defined() ? tensor.narrow(0, begin, count) : Tensor(); };
  Batch view{part(input_ids), part(labels), part(attention_mask), part(document_ids),
             part(positions), {},           labels_shifted,       first_sample + begin};
  for (const auto& [name, tensor] : others) view.others.emplace_back(name, part(tensor));
  return view;
}

std::string describe_batch(const Batch& batch, const std::function<std::string(int32_t)>& token_text) {
  std::ostringstream out;
  const auto values_of = [](const Tensor& tensor, const Tensor& like) {
    const bool fits = tensor.defined() && tensor.shape() == like.shape() && tensor.dtype() != DType::f32;
    return fits ? tensor.to_vector<int32_t>() : std::vector<int32_t>();
  };
  const std::vector<int32_t> ids = values_of(batch.input_ids, batch.input_ids);
  const std::vector<int32_t> labels = values_of(batch.labels, batch.input_ids);
  const std::vector<int32_t> mask = values_of(batch.attention_mask, batch.input_ids);
  const std::vector<int32_t> documents = values_of(batch.document_ids, batch.input_ids);
  const std::vector<int32_t> positions = values_of(batch.positions, batch.input_ids);
  const Tensor* prefixes = batch.find("prefix_ends");
  const std::vector<int32_t> prefix_ends = values_of(prefixes != nullptr ? *prefixes : Tensor(), batch.input_ids);
  const auto row_text = [](const Tensor& tensor, int64_t row) {
    std::ostringstream text;
    const std::vector<double> values = tensor.narrow(0, row, 1).to_vector<double>();
    for (size_t i = 0; i < values.size() && i < 64; ++i) text << (i > 0 ? " " : "") << values[i];
    if (values.size() > 64) text << " …";
    return text.str();
  };
  const int64_t length = batch.size() > 0 ? batch.input_ids.numel() / batch.size() : 0;
  for (int64_t b = 0; b < batch.size(); ++b) {
    out << "sample " << batch.first_sample + b << "\n  position  token";
    if (!labels.empty()) out << "  label";
    if (!mask.empty()) out << "  mask";
    if (!documents.empty()) out << "  document";
    if (!prefix_ends.empty()) out << "  prefix";
    out << (token_text ? "  text\n" : "\n");
    for (int64_t t = 0; t < length; ++t) {
      const size_t i = static_cast<size_t>(b * length + t);
      out << "  " << (positions.empty() ? t : positions[i]) << "  " << ids[i];
      if (!labels.empty()) out << "  " << labels[i];
      if (!mask.empty()) out << "  " << mask[i];
      if (!documents.empty()) out << "  " << documents[i];
      if (!prefix_ends.empty()) out << (prefix_ends[i] > t ? "  yes" : "  no");
      if (token_text) out << "  " << token_text(ids[i]);
      out << '\n';
    }
    if (batch.labels.defined() && labels.empty()) out << "  labels: " << row_text(batch.labels, b) << '\n';
    for (const auto& [name, tensor] : batch.others) {
      if (prefixes == &tensor && !prefix_ends.empty()) continue;
      out << "  " << name << ": " << row_text(tensor, b) << '\n';
    }
  }
  return out.str();
}

}  // namespace ondol
