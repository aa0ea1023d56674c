// Checkpoints of llama2.c (its first format: seven integers, then the weights as f32 one after the other; export.py,
// legacy_export, of github.com/karpathy/llama2.c).
#pragma once

#include <memory>
#include <unordered_map>

#include "base/json_reader.h"
#include "models/weight_source.h"

namespace ondol {

class Llama2cSource final : public WeightSource {
 public:
  /// Throws unless the sizes in the header are those of the file.
  explicit Llama2cSource(const std::string& path);

  /// What config.json would hold.
  const Json& config() const { return config_; }

  const std::string& path() const override { return file_->path(); }
  const std::vector<std::string>& names() const override { return names_; }
  bool has(const std::string& name) const override { return places_.contains(name); }
  std::string label(const std::string& name) const override { return name; }
  Shape shape(const std::string& name) const override { return places_.at(name).shape; }
  DType dtype(const std::string&) const override { return DType::f32; }
  Tensor tensor(const std::string& name) const override;
  std::optional<QuantizedMatrix> quantized(const std::string&) const override { return std::nullopt; }
  std::string type_name(const std::string&) const override { return "f32"; }
  bool is_floating(const std::string&) const override { return true; }
  void for_each_part(const std::string& name,
                     const std::function<void(const Tensor& part, int64_t row)>& body) const override;

 private:
  struct Place {
    Shape shape;
    uint64_t offset = 0;
    int64_t interleaved_heads = 0;
  };
  Tensor stored(const Place& place) const;

  std::shared_ptr<const MappedFile> file_;
  Json config_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, Place> places_;
};

}  // namespace ondol
