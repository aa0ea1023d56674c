// Where the weights of a model come from: the tensors of one or more files under their Hugging Face names.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <ondol/io/model_weights.h>
#include <ondol/ops/quantized.h>

namespace ondol {

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  WeightSource() = default;
  WeightSource(const WeightSource&) = delete;
  WeightSource& operator=(const WeightSource&) = delete;

  /// The file or directory, for messages.
  virtual const std::string& path() const = 0;
  virtual const std::vector<std::string>& names() const = 0;
  virtual bool has(const std::string& name) const = 0;

  // Of tensors that are there:
  /// What the file calls it, for messages.
  virtual std::string label(const std::string& name) const = 0;
  virtual Shape shape(const std::string& name) const = 0;
  virtual DType dtype(const std::string& name) const = 0;
  /// The numbers, quantised ones as f32; may be a view of a mapped file.
  virtual Tensor tensor(const std::string& name) const = 0;
  /// The blocks of a quantised matrix, rows in the order of tensor(), (out, in) even when tensor() is (in, out).
  virtual std::optional<QuantizedMatrix> quantized(const std::string& name) const = 0;
  /// "f32", "Q4_1": how the file holds it. Floating-point numbers and their quantised forms are weights.
  virtual std::string type_name(const std::string& name) const = 0;
  virtual bool is_floating(const std::string& name) const = 0;
  /// body(rows [row, row + n) of tensor(name), row), from the first to the last; memory of the file is given back
  /// behind each part. A scalar comes whole, row 0.
  virtual void for_each_part(const std::string& name,
                             const std::function<void(const Tensor& part, int64_t row)>& body) const = 0;
};

/// The safetensors files of a Hugging Face directory.
class SafetensorsSource final : public WeightSource {
 public:
  explicit SafetensorsSource(const std::string& directory) : weights_(directory) {}

  const std::string& path() const override { return weights_.path(); }
  const std::vector<std::string>& names() const override { return weights_.names(); }
  bool has(const std::string& name) const override { return weights_.has(name); }
  std::string label(const std::string& name) const override { return name; }
  Shape shape(const std::string& name) const override { return weights_.find(name)->shape; }
  Tensor tensor(const std::string& name) const override { return weights_.tensor(name); }
  std::optional<QuantizedMatrix> quantized(const std::string&) const override { return std::nullopt; }
  DType dtype(const std::string& name) const override { return weights_.find(name)->dtype; }
  std::string type_name(const std::string& name) const override { return dtype_name(weights_.find(name)->dtype); }
  bool is_floating(const std::string& name) const override { return ondol::is_floating(weights_.find(name)->dtype); }
  void for_each_part(const std::string& name,
                     const std::function<void(const Tensor& part, int64_t row)>& body) const override {
    weights_.for_each_part(name, body);
  }

 private:
  ModelWeights weights_;
};

}  // namespace ondol
