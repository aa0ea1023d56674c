// A run small enough for tests: a GPT-2 of a few thousand weights on random rows.
#pragma once

#include <string>
#include <vector>

#include <ondol/base/philox.h>
#include <ondol/io/safetensors.h>
#include <ondol/train/trainer.h>

#include "support/temporary_directory.h"

namespace ondol::testing {

inline constexpr int kTinyVocabulary = 64;

/// model.json, train.safetensors (24 rows of 16 tokens) and valid.safetensors (6 rows) in the directory.
inline void write_tiny_inputs(const TemporaryDirectory& directory, double dropout = 0.0) {
  directory.write("model.json", concat(R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": )",
                                       kTinyVocabulary, R"(, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2,
      "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "initializer_range": 0.1, "resid_pdrop": )",
                                       dropout, ", \"embd_pdrop\": ", dropout, ", \"attn_pdrop\": 0.0}"));
  for (const auto& [name, rows] : {std::pair{"train", 24}, std::pair{"valid", 6}}) {
    std::vector<int32_t> ids;
    for (int i = 0; i < rows * 16; ++i) {
      ids.push_back(static_cast<int32_t>(philox_word({rows == 24 ? 1u : 2u, 0, 0}, i) % kTinyVocabulary));
    }
    const Tensor tensor = Tensor::from_vector(ids, {rows, 16});
    write_safetensors(directory / (std::string(name) + ".safetensors"), {{"input_ids", tensor}, {"labels", tensor}});
  }
}

/// 12 steps of 4 samples, a checkpoint every 4 steps, an evaluation every 6, in `run`.
inline TrainConfig tiny_config(const TemporaryDirectory& directory, const std::string& run,
                               std::vector<std::string> overrides = {}) {
  const std::string text =
      concat(R"({"model": {"config": ")", directory / "model.json", R"("}, "data": {"train": [{"path": ")",
             directory / "train.safetensors", R"("}], "validation": [{"path": ")", directory / "valid.safetensors",
             R"("}]}, "objective": {"type": "tensors"}, "optimizer": {"learning_rate": 1e-2},
      "schedule": {"type": "cosine", "warmup_steps": 3},
      "train": {"steps": 12, "batch_size": 4, "micro_batch_size": 2}, "evaluation": {"every": 6},
      "checkpoint": {"every": 4}, "logging": {"peak_flops": 1e12}, "output": ")",
             directory / run, "\"}");
  return TrainConfig::from_json(text, overrides);
}

}  // namespace ondol::testing
