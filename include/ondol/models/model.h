// What every model family offers to training, generation and the command line.
//
//   auto model = load_model("path/to/model", {.device = "auto", .dtype = DType::bf16});
//   Variable hidden = model->hidden({.input_ids = ids}, context);          // (B, T, C) after the last norm
//   Tensor logits = model->logits(hidden.value());
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ondol/autograd/variable.h>
#include <ondol/nn/kv_cache.h>
#include <ondol/nn/parameter.h>
#include <ondol/ops/dropout.h>

namespace ondol {

/// What all families have in common; the rest is in the family's own config.
struct ModelInfo {
  std::string model_type;    // "gpt2", "llama", ...
  std::string architecture;  // "GPT2LMHeadModel", ...
  int64_t vocab_size = 0, hidden_size = 0, num_layers = 0, max_positions = 0;
  int64_t num_kv_heads = 0, head_dim = 0;  // sizes of the KV cache
  std::optional<int32_t> bos_token_id, pad_token_id;
  std::vector<int32_t> eos_token_ids;
  /// FLOPs of the matrix products of forward and backward for one token of a sequence of this length:
  /// 6 N + 6 L C T (N without input embeddings that are not used as output).
  double training_flops_per_token(int64_t sequence_length) const;
  int64_t matmul_parameters = 0;
};

/// One batch. Shapes (B, T); everything but input_ids may be undefined.
struct ModelInput {
  Tensor input_ids;       // i32
  Tensor attention_mask;  // u8, 0 hides a token from the others
  Tensor positions;       // i32; default 0, 1, 2, ...
  Tensor documents;       // i32; attention stays inside one document
  Tensor labels;          // i32, not shifted: objectives say what is predicted where
};

/// How a forward runs. The default is evaluation without dropout.
struct ForwardContext {
  bool training = false;  // dropout on
  RngKey rng;             // dropout: seed and step; the stream is the base to which layers add their own number
  KvCache* cache = nullptr;
  /// When set, receives the embeddings and the output of each layer, the last one after the final norm.
  std::vector<Tensor>* hidden_states = nullptr;
};

class Model {
 public:
  virtual ~Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const ModelInfo& info() const { return info_; }
  ParameterStore& parameters() { return parameters_; }
  const ParameterStore& parameters() const { return parameters_; }
  DType dtype() const { return parameters_.flat_values().dtype(); }
  Device device() const { return parameters_.flat_values().device(); }

  /// The tensors of the model file, tied ones once, in file order.
  virtual const std::vector<WeightSlot>& weights() const = 0;
  /// The Hugging Face config.json (text), with every setting that the model uses.
  virtual std::string config_json() const = 0;

  /// Hidden states (B, T, C) after the final norm.
  virtual Variable hidden(const ModelInput& input, const ForwardContext& context) = 0;
  /// The output projection (V, C), tied or not.
  virtual Variable output_weight() const = 0;
  /// hidden (.., C) -> logits (.., V), dtype of the model.
  Tensor logits(const Tensor& hidden) const;

  /// A cache for `batch` sequences of up to `capacity` tokens.
  KvCache make_cache(int64_t batch, int64_t capacity) const;

 protected:
  Model() = default;
  ModelInfo info_;
  ParameterStore parameters_;
};

struct LoadOptions {
  std::string device = "auto";  // "auto", "cpu", "cuda", "cuda:N"
  std::optional<DType> dtype;   // default: bf16 for a model saved in bf16, else f32
};

/// "auto": the first GPU when the build and the machine have one, else the CPU.
Device resolve_device(const std::string& name);

/// From a Hugging Face directory: config.json and safetensors weights. Missing, unexpected or misshapen tensors throw,
/// naming file and tensor.
std::unique_ptr<Model> load_model(const std::string& directory, const LoadOptions& options = {});

/// From a config.json alone (a file, or the directory that holds it); weights are drawn from the family's
/// initialisation.
std::unique_ptr<Model> create_model(const std::string& config_path, DType dtype, Device device, uint64_t seed);

/// Writes config.json, generation_config.json and model.safetensors (shards with an index above max_shard_bytes).
/// `values` replaces the model's own flat values (master weights); dtype converts (default: the model's).
struct SaveOptions {
  std::optional<DType> dtype;
  uint64_t max_shard_bytes = 5'000'000'000;
  Tensor flat_values;
};
void save_model(const Model& model, const std::string& directory, const SaveOptions& options = {});

}  // namespace ondol
