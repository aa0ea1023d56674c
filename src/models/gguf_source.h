// The weights of a GGUF file as a Hugging Face directory would hold them.
#pragma once

#include <unordered_map>

#include "models/gguf_architecture.h"
#include "models/weight_source.h"

namespace ondol {

class GgufSource final : public WeightSource {
 public:
  /// `config` is read_gguf_config(file). Tensors that the architecture does not know throw.
  GgufSource(GgufFile file, const JsonReader& config);

  const std::string& path() const override { return file_.path(); }
  const std::vector<std::string>& names() const override { return names_; }
  bool has(const std::string& name) const override { return entries_.contains(name); }
  std::string label(const std::string& name) const override { return entry(name).name; }
  Shape shape(const std::string& name) const override;
  Tensor tensor(const std::string& name) const override;
  std::optional<QuantizedMatrix> quantized(const std::string& name) const override;
  DType dtype(const std::string& name) const override { return entry(name).type->dtype.value_or(DType::f32); }
  std::string type_name(const std::string& name) const override { return entry(name).type->name; }
  bool is_floating(const std::string& name) const override;
  void for_each_part(const std::string& name,
                     const std::function<void(const Tensor& part, int64_t row)>& body) const override;

 private:
  const GgufTensor& entry(const std::string& name) const { return *entries_.at(name); }
  /// Heads whose rows are interleaved, 0 when rows are in order.
  int64_t interleaved_heads(const std::string& name) const;

  GgufFile file_;
  const GgufArchitecture& architecture_;
  int64_t query_heads_ = 0, key_heads_ = 0;
  std::vector<std::string> names_;
  std::unordered_map<std::string, const GgufTensor*> entries_;
};

/// Rows (.., the first dimension) from the order of GGUF to that of Hugging Face, and back: of each head, llama.cpp has
/// rows 0, D/2, 1, D/2 + 1, … where transformers has 0, 1, 2, …
Tensor split_heads(const Tensor& rows, int64_t heads);
Tensor interleave_heads(const Tensor& rows, int64_t heads);

}  // namespace ondol
