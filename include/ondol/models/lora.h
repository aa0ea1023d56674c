// Low-rank adapters (LoRA, Hu et al. 2021) on a model's linear layers, and PEFT's adapter directories.
//
//   const LoraConfig lora{.rank = 8, .alpha = 16, .dropout = 0.05, .targets = {"q_proj", "v_proj"}};
//   auto model = load_model("base", {.extend = [&](Model& m) { add_lora(m, lora, "base"); }});
//   save_model(*model, "adapter");                       // adapter_config.json, adapter_model.safetensors
//   auto again = load_model("adapter");                  // the base model with the adapter attached
//
// A linear layer W (out, in) becomes W + s B A with A (rank, in), B (out, rank) and s = alpha / rank, or alpha /
// sqrt(rank) when rank-stabilised (Kalajdzievski 2023). A starts uniform within 1 / sqrt(in), B at zero. Only A, B and
// modules_to_save are trained. The base may stay quantised. Files are those of the Python library peft.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <ondol/io/safetensors.h>
#include <ondol/models/model.h>

namespace ondol {

struct LoraConfig {
  int64_t rank = 8;
  double alpha = 16.0;
  double dropout = 0.0;
  bool rank_stabilized = false;
  /// Linear layers by the last part of their name ("q_proj", "attention.self.query", "layers.0.*.q_proj"), as in peft;
  /// "all-linear": all of the layers, but nothing above them.
  std::vector<std::string> targets;
  /// Parts of the base that are trained and saved whole: new heads ("classifier").
  std::vector<std::string> modules_to_save;

  double scale() const;
};

/// What add_lora has attached to a model.
struct Lora {
  LoraConfig config;
  std::string base;                  // the base model's path
  std::vector<std::string> modules;  // linear layers, by their names in the base's file
  std::vector<WeightSlot> tensors;   // of the adapter's file
  std::vector<std::string> saved;    // modules of the base that are trained and saved whole
  bool fan_in_fan_out = false;       // the base's files hold these weights as (in, out)
};

/// Before the model gets memory: adds A and B as extras ("lora...."), and freezes the base. Throws UsageError when a
/// target or a module to save matches nothing.
void add_lora(Model& model, const LoraConfig& config, const std::string& base);

/// The parts of a model above its layers ("classifier", "pooler"), which a new head is made of: for modules_to_save.
std::vector<std::string> head_modules(const Model& model);

/// A directory with adapter_config.json and no model of its own.
bool is_adapter(const std::string& path);

/// An adapter directory, written here or by peft. Throws Error naming the file and what is not supported: other kinds
/// than LoRA, DoRA, trained biases, ranks that differ between layers.
class AdapterFile {
 public:
  explicit AdapterFile(const std::string& directory);

  /// Targets and modules to save are full names.
  const LoraConfig& config() const { return config_; }
  /// The base model's path: as the file says, relative to the working directory or to the adapter's. Throws UsageError
  /// when there is nothing.
  std::string base() const;

  /// The head that it brings, as head.json says; without that (peft) as task_type and the saved weights do, or none.
  std::optional<HeadRequest> head() const;

  /// The values of what add_lora has attached.
  void read_into(const Model& model) const;
  /// A tensor of the base's file with the adapter merged into it: `values` itself where the adapter has nothing.
  /// `transposed`: values are (in, out).
  Tensor merged(const std::string& name, const Tensor& values, bool transposed) const;
  /// Throws Error when a tensor of the adapter belongs to none of these.
  void check_names(const std::vector<std::string>& base_names) const;

 private:
  std::string directory_, base_;
  SafetensorsFile file_;
  LoraConfig config_;
};

}  // namespace ondol
