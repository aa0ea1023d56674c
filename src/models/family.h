// What a model family implements, and the registry that finds it by model_type. Adding a family: one file with a class
// derived from FamilyModel and a factory, and one line in registry.cpp (docs/adding_a_model.md).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ondol/models/model.h>
#include <ondol/models/tensor_parallel.h>
#include <ondol/nn/tensor_parallel.h>
#include <ondol/ops/elementwise.h>

#include "base/json_reader.h"

namespace ondol {

/// The parts of Model that are the same for every family.
class FamilyModel : public Model {
 public:
  const std::vector<WeightSlot>& weights() const final { return slots_; }
  std::string config_json() const final { return config_.dump(2); }

  /// Prefix under which the backbone's tensors are saved ("transformer.", "model."); files may lack it, or have it
  /// where the model has not.
  virtual std::string base_prefix() const = 0;
  /// Of the tensors that no weight is made from: those that may be there (attention mask buffers and the like).
  virtual bool is_buffer(const std::string& name) const = 0;
  /// The name of today for a tensor that older files name otherwise.
  virtual std::string canonical_name(const std::string& name) const { return name; }
  /// The tensor that a weight is read from when a file has none of its own name, else "".
  virtual std::string alternative_name(const std::string&) const { return ""; }
  /// For a tensor that a file may repeat although it is tied: the name under which it was saved, else "".
  virtual std::string tied_name(const std::string& name) const = 0;

  /// Text of generation_config.json as loaded, or made from the config.
  std::string generation_config_json() const { return generation_config_.dump(2); }
  void set_generation_config(Json config, const std::string& file);

  /// Makes this process's part of the model of it (models/tensor_parallel.h).
  void split(const TensorPlace& place);

 protected:
  /// Reads what all configs share (token ids) and keeps the document, which config_json() returns.
  explicit FamilyModel(const JsonReader& config);

  /// A parameter that is one tensor in the file.
  Variable add_weight(const std::string& name, const Shape& shape, const Init& init, bool transposed = false);
  /// Values of the file that are not trained.
  Variable add_buffer(const std::string& name, const Shape& shape, const Init& init);
  /// A parameter whose rows are several tensors of the file, in this order.
  struct Part {
    std::string name;
    int64_t rows;
  };
  Variable add_fused(const std::string& name, const std::vector<Part>& parts, int64_t columns, const Init& init);

  /// Tensor parallelism: the rows of a parameter are shared out among ranks, those of each part by themselves (by
  /// default of each tensor of the file), or its columns. What is not named here every rank holds whole. An undefined
  /// parameter has none.
  void share_rows(const Variable& parameter, std::vector<int64_t> parts = {});
  void share_columns(const Variable& parameter);
  /// Throws UsageError where so many ranks cannot share the model; by default no number of them can.
  virtual void check_tensor_ranks(int ranks) const;
  /// Which rows of tokens (B, T) a forward computes here.
  TokenRows token_rows(const Tensor& tokens, const ForwardContext& context) const;
  /// Throws UsageError where the model is split: predict_tokens.
  void check_predictions() const;
  /// Throws UsageError naming the key of the configuration.
  void check_shared_out(const char* key, int64_t count, int ranks) const;

  Json config_;
  Json generation_config_;

 private:
  struct Share {
    Variable parameter;
    int dim;
    std::vector<int64_t> parts;
  };
  static void split_slot(WeightSlot& slot, const ParameterSplit& split);

  std::vector<WeightSlot> slots_;
  std::vector<Share> shares_;
};

/// The activation named by a key of the config. Throws UsageError naming the key, the file and the known ones.
Activation read_activation(const JsonReader& config, const std::string& key, const std::string& fallback);

using FamilyFactory = std::unique_ptr<FamilyModel> (*)(const JsonReader& config);

/// Its model_type; "ctranslate2" where a configuration without one describes a Transformer with two vocabularies.
std::string model_type_of(const JsonReader& config);

/// The factory for a config's model_type. Throws UsageError naming the known ones.
FamilyFactory find_family(const JsonReader& config);
bool is_supported_model_type(const std::string& model_type);

std::unique_ptr<FamilyModel> make_bart(const JsonReader& config);
std::unique_ptr<FamilyModel> make_bert(const JsonReader& config);
std::unique_ptr<FamilyModel> make_ctranslate2(const JsonReader& config);
std::unique_ptr<FamilyModel> make_distilbert(const JsonReader& config);
std::unique_ptr<FamilyModel> make_electra(const JsonReader& config);
std::unique_ptr<FamilyModel> make_roberta(const JsonReader& config);
std::unique_ptr<FamilyModel> make_gpt2(const JsonReader& config);
std::unique_ptr<FamilyModel> make_llama(const JsonReader& config);
std::unique_ptr<FamilyModel> make_marian(const JsonReader& config);
std::unique_ptr<FamilyModel> make_mbart(const JsonReader& config);
std::unique_ptr<FamilyModel> make_t5(const JsonReader& config);

}  // namespace ondol
