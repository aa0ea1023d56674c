// What every model family offers to training, generation and the command line.
//
//   auto model = load_model("path/to/model", {.device = "auto", .dtype = DType::bf16});
//   const ModelInput input = model->prepare({.input_ids = ids, .labels = labels}).to(model->device());
//   for (const auto& [name, value] : model->forward(input, {})) ...         // "logits", "last_hidden_state", ...
//   Variable loss = total_loss(model->losses(input, mean_scales(model->count_targets(input)), context));
//
// Language models that predict the next token also give their parts, for generation:
//
//   Tensor logits = model->logits(model->hidden({.input_ids = ids}, context).value());
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ondol/autograd/variable.h>
#include <ondol/io/tensor_slices.h>
#include <ondol/models/layer_hooks.h>
#include <ondol/models/model_input.h>
#include <ondol/nn/kv_cache.h>
#include <ondol/nn/parameter.h>
#include <ondol/ops/dropout.h>
#include <ondol/ops/loss.h>

namespace ondol {

/// What stands on top of the backbone.
enum class Head {
  none,  // hidden states, perhaps a pooler
  causal_language_model,
  masked_language_model,
  sequence_to_sequence,
  replaced_token_detection,
  sequence_classification,
  token_classification,
  question_answering,
};

/// What a model's generation_config.json asks of generated text, as transformers understands it. Lengths count what the
/// decoder reads and writes: its prompt, or the start token beside an encoder, and the new tokens.
struct TokenRules {
  std::optional<int32_t> forced_bos_token_id;  // the token at position 1
  std::vector<int32_t> forced_eos_token_ids;   // the last token that the length allows
  int64_t min_length = 0, min_new_tokens = 0;  // no end token before
  int64_t no_repeat_ngram_size = 0;            // > 0: no run of so many tokens occurs twice

  bool any() const {
    return forced_bos_token_id || !forced_eos_token_ids.empty() || min_length > 0 || min_new_tokens > 0 ||
           no_repeat_ngram_size > 0;
  }
};

/// What all families have in common; the rest is in the family's own config.
struct ModelInfo {
  std::string model_type;    // "gpt2", "llama", ...
  std::string architecture;  // "GPT2LMHeadModel", ...
  Head head = Head::none;
  int64_t vocab_size = 0, hidden_size = 0, num_layers = 0, max_positions = 0;
  std::optional<double> rope_theta;        // base of rotary positions, where the model has some
  int64_t max_source_positions = 0;        // of an encoder beside the decoder
  int64_t source_vocab_size = 0;           // of that encoder
  int64_t num_kv_heads = 0, head_dim = 0;  // sizes of the KV cache
  std::optional<int32_t> bos_token_id, pad_token_id;
  std::vector<std::string> labels;    // of a classification head: "LABEL_0", ... where the config names none
  bool regression = false;            // the head gives values, one for each label
  bool multi_label = false;           // several labels may hold at once
  bool runs_unpadded = false;         // takes ModelInput::sequences
  bool bidirectional_prefix = false;  // a decoder that reads prompts in both directions
  std::vector<int32_t> eos_token_ids;
  std::optional<int32_t> decoder_start_token_id;  // encoder-decoders: what decoding begins with
  TokenRules token_rules;
  /// FLOPs of the matrix products of forward and backward for one token of a sequence of this length:
  /// 6 N + 6 L C T (N without input embeddings that are not used as output).
  double training_flops_per_token(int64_t sequence_length) const;
  int64_t matmul_parameters = 0;
};

/// How a forward runs. The default is evaluation without dropout.
struct ForwardContext {
  bool training = false;  // dropout on
  /// Activations inside layers are not kept for the backward but computed again (autograd/recompute.h).
  bool recompute_layers = false;
  LayerHooks* layers = nullptr;  // called around each layer
  RngKey rng;                    // dropout: seed and step; the stream is the base to which layers add their own number
  KvCache* cache = nullptr;
  /// When set (n) i32: a masked language model's forward gives logits (n, V) of these rows of (B T) only.
  Tensor logit_rows;
  /// When set, receives the embeddings and the output of each layer, the last one after the final norm, under their
  /// Hugging Face names: "hidden_states.0", ...; "encoder_hidden_states.0", ... where there are two stacks.
  std::vector<std::pair<std::string, Tensor>>* hidden_states = nullptr;
};

/// Outputs by their Hugging Face names: "logits", "last_hidden_state", "pooler_output", ...
using NamedOutputs = std::vector<std::pair<std::string, Variable>>;

/// The last product of a language model: logits = scale hidden weight^T + bias.
struct OutputProjection {
  Variable weight;     // (V, C)
  Variable bias;       // (V), may be undefined
  float scale = 1.0f;  // of hidden
};

/// What the scores of a language model's tokens are made from.
struct TokenPredictions {
  Variable hidden;    // (B, T, C): the last hidden states, of the decoder where there are two stacks
  Variable features;  // (.., E): what `output` is applied to, its scale included
  OutputProjection output;
};

/// The loss: the sum of the terms that are defined. Throws when there is none.
Variable total_loss(const std::vector<Variable>& terms);

/// 1 / count for each term of a loss; 0 counts as 1.
std::vector<LossScale> mean_scales(const std::vector<int64_t>& counts);

struct Lora;         // models/lora.h
class Communicator;  // distributed/communicator.h

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

  /// The inputs that the model takes, targets included.
  virtual std::vector<InputSpec> inputs() const = 0;
  /// Checks names, shapes and dtypes of the tensors that are there (on any device; values are not looked at). Throws
  /// UsageError; `where` (a file) ends its message.
  void check_shapes(const ModelInput& input, const std::string& where) const;
  /// Makes an input on the host complete: checks shapes and values, and brings targets into the form in which outputs
  /// are compared with them (next-token labels shifted, positions outside the text ignored, ...). Forward passes that
  /// have no loss may do without, when their values are known to be right.
  ModelInput prepare(ModelInput input, const std::string& where = "input") const;

  /// Hidden states (B, T, C) of the backbone after the final norm; of the decoder where there are two stacks.
  virtual Variable hidden(const ModelInput& input, const ForwardContext& context) = 0;
  /// Everything that the model computes but for the loss.
  virtual NamedOutputs forward(const ModelInput& input, const ForwardContext& context) = 0;

  /// A loss is a sum of terms, each a mean over targets of its own (MLM and next sentence; start and end of an answer).
  /// The number of targets that count in a prepared input on the host, for each term; its length is that of the model.
  virtual std::vector<int64_t> count_targets(const ModelInput& prepared) const = 0;
  /// scales[i] times the sum over the targets of term i, one f32 element each; undefined where targets are absent.
  /// Works on a prepared input on the model's device without waiting for it.
  virtual std::vector<Variable> losses(const ModelInput& prepared, const std::vector<LossScale>& scales,
                                       const ForwardContext& context) = 0;

  /// The output projection, tied or not. Throws UsageError unless the model predicts the next token.
  virtual OutputProjection output_projection() const;
  /// hidden (.., C) -> logits (.., V), dtype of the model.
  Tensor logits(const Tensor& hidden) const;

  /// Gives rotary positions another base and another limit, from the next forward on; the configuration says so too.
  /// Throws UsageError when the model has none.
  virtual void change_rotary_positions(double theta, int64_t max_positions);

  /// Decoders: whether prompts are read in both directions from now on (a prefix language model); the configuration
  /// says so too. Where an input leaves prefix_ends out, prepare() then takes what stands in front of the first label
  /// (of each document; without labels everything) for the prompt, and a forward with a cache takes a step of several
  /// tokens for one. Throws UsageError when the model's attention cannot take a prefix.
  virtual void set_bidirectional_prefix(bool on);

  /// Encoder-decoders: reads the sources (B, T), sources[b] having lengths[b] tokens and padding behind them, and
  /// leaves in the cache what decoding needs of them. hidden() with that cache then takes decoder_input_ids alone.
  /// Throws UsageError unless the head is sequence_to_sequence.
  virtual void encode(const Tensor& sources, const std::vector<int32_t>& lengths, KvCache& cache);

  /// Everything up to the last product, for losses of their own: where the input has target_positions the features of
  /// those alone, (B, P, E). Throws UsageError unless the model predicts tokens, masked or next ones.
  virtual TokenPredictions predict_tokens(const ModelInput& input, const ForwardContext& context);

  /// Models beside this one that its training needs (a teacher, a generator), under a name each; null when there is
  /// none.
  void attach(const std::string& name, std::shared_ptr<Model> model) { attached_[name] = std::move(model); }
  Model* attached(const std::string& name) const;
  const std::map<std::string, std::shared_ptr<Model>>& attached() const { return attached_; }

  /// The adapter on the model's weights (models/lora.h); null for none.
  const Lora* lora() const { return lora_.get(); }
  void set_lora(std::shared_ptr<const Lora> lora) { lora_ = std::move(lora); }

  /// The ranks that hold the model together (models/tensor_parallel.h); null: this process holds all of it.
  Communicator* tensor_group() const { return tensor_group_; }

  /// A cache for `batch` sequences of up to `capacity` tokens.
  KvCache make_cache(int64_t batch, int64_t capacity) const;

 protected:
  Model() = default;
  /// The part of prepare that is the family's own; shapes and values have been checked.
  virtual ModelInput complete(ModelInput input) const { return input; }

  ModelInfo info_;
  ParameterStore parameters_;
  Communicator* tensor_group_ = nullptr;

 private:
  std::map<std::string, std::shared_ptr<Model>> attached_;
  std::shared_ptr<const Lora> lora_;
};

/// Another head than the one that a model comes with: its weights are drawn, those of the backbone are loaded. A head
/// that is there already, with the same labels, is loaded as well.
struct HeadRequest {
  Head head = Head::none;                // sequence_classification, token_classification or question_answering
  std::vector<std::string> labels = {};  // {}: those of the configuration
  std::string problem_type = {};         // as in Hugging Face configurations: "regression", ...; "": as it follows
};

/// Is shown a model before its parameters get memory, so that it may add some for training (ParameterStore::add_extra).
using ModelExtension = std::function<void(Model&)>;

struct LoadOptions {
  std::string device = "auto";  // "auto", "cpu", "cuda", "cuda:N"
  std::optional<DType> dtype;   // default: bf16 for a model saved in bf16, else f32
  bool keep_quantized = true;   // of GGUF files: weights stay quantised, for inference; false: dtype, for training
  ModelExtension extend;
  std::optional<HeadRequest> head = {};
  uint64_t seed = 0;  // of what `extend` adds and a new head
};

/// "auto": the first GPU when the build and the machine have one, else the CPU.
Device resolve_device(const std::string& name);

/// From a Hugging Face directory (config.json and safetensors weights), a GGUF file, or an adapter directory
/// (models/lora.h), whose base model is then loaded with the adapter attached. Missing, unexpected or misshapen
/// tensors throw, naming file and tensor.
std::unique_ptr<Model> load_model(const std::string& path, const LoadOptions& options = {});

/// From a config.json alone (a file, or the directory that holds it); weights are drawn from the family's
/// initialisation.
std::unique_ptr<Model> create_model(const std::string& config_path, DType dtype, Device device, uint64_t seed,
                                    const ModelExtension& extend = {}, const std::optional<HeadRequest>& head = {});

/// A model without weights, for checks and preparations that look at its configuration alone; from whatever load_model
/// and create_model take. It computes nothing.
std::unique_ptr<Model> outline_model(const std::string& path, const std::optional<HeadRequest>& head = {});
/// The same from the text of a configuration, for ParameterStore::absorb; `name` stands for its file in errors.
std::unique_ptr<Model> outline_model(const std::string& config_json, const std::string& name);

/// What this process has of a weight, where it does not have all of it: places are those of the tensor in the file.
using HeldParts = std::function<std::vector<TensorPart>(const WeightSlot&)>;

/// Writes config.json, generation_config.json and model.safetensors (shards with an index above max_shard_bytes); of a
/// model with an adapter the adapter alone: adapter_config.json, adapter_model.safetensors and, with a head of its own,
/// head.json. dtype converts (default: the model's).
struct SaveOptions {
  std::optional<DType> dtype;
  uint64_t max_shard_bytes = 5'000'000'000;
  HeldParts held;  // null: every weight is whole here
};
void save_model(const Model& model, const std::string& directory, const SaveOptions& options = {});

}  // namespace ondol
