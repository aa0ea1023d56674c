// Parameters that a run does not train: names, layers, what is left of gradients and state, resume.
#include <cmath>

#include <gtest/gtest.h>

#include <ondol/io/safetensors.h>

#include "models/name_pattern.h"
#include "support/error_of.h"
#include "support/temporary_directory.h"
#include "train/parameter_names.h"
#include "train/run_watch.h"
#include "train/tiny_run.h"
#include "train/trainable.h"

namespace ondol {
namespace {

using testing::tiny_config;

TEST(NamePattern, MatchesPartsInARow) {
  const std::string name = "bert.encoder.layer.1.attention.self.query.weight";
  for (const char* pattern : {"bert", "encoder.layer.1", "encoder.layer.1.*", "layer.?", "*query*", "attention.self",
                              "encoder.layer", "weight", "*", "bert.*.weight", "encoder.*.query", name.c_str()}) {
    EXPECT_TRUE(name_matches(pattern, name)) << pattern;
  }
  for (const char* pattern : {"er", "encoder.layer.2", "layer.", "query.weight.x", "ayer.1", ""}) {
    EXPECT_FALSE(name_matches(pattern, name)) << pattern;
  }
  EXPECT_FALSE(name_matches("layer.1", "bert.encoder.layer.11.output.dense.bias"));
}

std::string llama_config(const testing::TemporaryDirectory& directory) {
  return directory.write("llama.json", R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"],
      "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2,
      "num_key_value_heads": 1, "max_position_embeddings": 32, "tie_word_embeddings": false})");
}

TEST(ParameterNames, DepthCountsFromTheInput) {
  const testing::TemporaryDirectory directory;
  const auto model = create_model(llama_config(directory), DType::f32, {}, 1);
  const ParameterNames names(*model);
  EXPECT_EQ(names.layers(), 3);
  const auto depth = [&](const std::string& name) {
    for (const NamedTensor& tensor : names.tensors()) {
      if (tensor.name == name) return tensor.depth;
    }
    return int64_t{-1};
  };
  EXPECT_EQ(depth("model.embed_tokens.weight"), 0);
  EXPECT_EQ(depth("model.layers.0.self_attn.k_proj.weight"), 1);
  EXPECT_EQ(depth("model.layers.2.mlp.down_proj.weight"), 3);
  EXPECT_EQ(depth("model.norm.weight"), 4);
  EXPECT_EQ(depth("lm_head.weight"), 4);
  const std::vector<size_t> keys = names.find("k_proj", "x");
  ASSERT_EQ(keys.size(), 3u);
  EXPECT_EQ(names.tensors()[keys[0]].row_start, 16);
  EXPECT_EQ(names.tensors()[keys[0]].rows, 8);
}

TEST(Freeze, WhatCannotBeIsNamed) {
  const testing::TemporaryDirectory directory;
  const auto error = [&](const TrainConfig::Freeze& freeze) {
    return testing::error_of([&] {
      create_model(llama_config(directory), DType::f32, {}, 1, [&](Model& model) { choose_trainable(model, freeze); });
    });
  };
  EXPECT_EQ(error({.patterns = {"layer.0"}}), "train.freeze \"layer.0\" matches no parameter of the model");
  EXPECT_NE(error({.patterns = {"q_proj"}})
                .find("\"model.layers.0.self_attn.q_proj.weight\" but not "
                      "\"model.layers.0.self_attn.k_proj.weight\""),
            std::string::npos);
  EXPECT_EQ(error({.layers = 4}), "train.freeze_layers is 4, the model has 3 layers");
  EXPECT_EQ(error({.patterns = {"*"}}), "train.freeze leaves nothing to train");
  EXPECT_EQ(error({.patterns = {"q_proj", "k_proj", "v_proj"}, .layers = 2}), "no error");
  try {
    create_model(llama_config(directory), DType::f32, {}, 1,
                 [&](Model& model) { choose_trainable(model, {.patterns = {"model.layer.0"}}); });
    FAIL();
  } catch (const UsageError& usage) {
    EXPECT_EQ(usage.hint(), "did you mean \"model.layers.0\"?");
  }
}

std::vector<float> tensor_of(const std::string& path, const std::string& name) {
  return SafetensorsFile(path + "/model.safetensors").tensor(name).to_vector<float>();
}

class FrozenRun : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Freeze, FrozenRun, ::testing::Values("f32", "bf16"));

/// A step of plain gradient descent without clipping moves what is trained as if all were, and nothing else.
TEST_P(FrozenRun, GradientsOfTheRestAreTheSame) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  std::vector<std::string> set = {std::string("train.dtype=") + GetParam(),
                                  "optimizer.type=sgd",
                                  "train.steps=1",
                                  "train.max_grad_norm=0",
                                  "checkpoint.every=1",
                                  "schedule.type=constant",
                                  "schedule.warmup_steps=0"};
  const auto run = [&](const std::string& name) {
    Trainer trainer(tiny_config(directory, name, set), {.device = "cpu"});
    return trainer.run().directory;
  };
  const std::string all = run("all");
  set.push_back(R"(train.freeze=["h.1.mlp", "ln_1.bias", "wpe"])");
  const std::string some = run("some");
  set.back() = "optimizer.learning_rate=0";
  const std::string none = run("none");
  const SafetensorsFile weights(some + "/model.safetensors");
  for (const SafetensorsEntry& entry : weights.entries()) {
    const bool frozen = entry.name.find("h.1.mlp") != std::string::npos || entry.name.ends_with("ln_1.bias") ||
                        entry.name.ends_with("wpe.weight");
    EXPECT_EQ(tensor_of(some, entry.name), tensor_of(frozen ? none : all, entry.name)) << entry.name;
    const bool visible = std::string(GetParam()) == "f32" || entry.name.ends_with("wte.weight");  // not rounded away
    if (visible) {
      EXPECT_NE(tensor_of(all, entry.name), tensor_of(none, entry.name)) << entry.name;
    }
  }
}

TEST_P(FrozenRun, LowestLayersHaveNoStateAndResumeIsIdentical) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory, /*dropout=*/0.1);
  const std::vector<std::string> set = {std::string("train.dtype=") + GetParam(), "train.freeze_layers=1"};
  Trainer whole(tiny_config(directory, "whole", set), {.device = "cpu"});
  EXPECT_TRUE(whole.run().finished);
  testing::run_in_parts(tiny_config(directory, "parts", set), {5});
  testing::expect_same_files(directory, "whole", "parts",
                             {"final/model.safetensors", "checkpoint-12/optimizer.safetensors"});
  // Layer 1 and the last norm are trained: their weights, of 16 hidden units, with biases and 4 norm vectors of 16.
  const SafetensorsFile state(directory / "whole/checkpoint-12/optimizer.safetensors");
  const int64_t matrices = 16 * 48 + 16 * 16 + 2 * 16 * 64, vectors = 48 + 16 + 64 + 16 + 4 * 16 + 2 * 16;
  EXPECT_EQ(state.tensor("exp_avg").numel(), matrices + vectors);
  if (std::string(GetParam()) == "bf16") {
    EXPECT_EQ(state.tensor("master").numel(), matrices + vectors);
  }
}

class UnfreezingRun : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Freeze, UnfreezingRun, ::testing::Values("adamw", "lamb", "adafactor", "sgd", "lion"));

/// Groups of the tiny model: the last norm, layer 1, layer 0, embeddings; one more each 3 steps. What is held is not
/// even decayed, and stopping in between changes nothing.
TEST_P(UnfreezingRun, OneLayerMoreFromTheTopAndResumeIsIdentical) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory, /*dropout=*/0.1);
  const std::string type = GetParam();
  const std::vector<std::string> set = {R"(train.gradual_unfreezing={"steps": 3})",
                                        "checkpoint.every=1",
                                        "checkpoint.keep=0",
                                        "schedule.type=constant",
                                        "schedule.warmup_steps=0",
                                        "optimizer.decay=all",
                                        "optimizer.type=" + type};
  Trainer whole(tiny_config(directory, "whole", set), {.device = "cpu"});
  EXPECT_TRUE(whole.run().finished);
  const auto moved = [&](int step, const std::string& name) {
    const auto before = tensor_of(concat(directory / "whole/checkpoint-", step - 1), name);
    const auto after = tensor_of(concat(directory / "whole/checkpoint-", step), name);
    double most = 0.0;
    for (size_t i = 0; i < before.size(); ++i) most = std::max(most, std::fabs(double{after[i]} - before[i]));
    return most;
  };
  const std::pair<const char*, int> first_steps[] = {{"transformer.ln_f.weight", 1},
                                                     {"transformer.h.1.mlp.c_fc.weight", 4},
                                                     {"transformer.h.0.attn.c_attn.weight", 7},
                                                     {"transformer.wte.weight", 10}};
  for (const auto& [name, first] : first_steps) {
    for (int step = 2; step <= 12; ++step) {
      if (step < first) {
        EXPECT_EQ(moved(step, name), 0.0) << name << " " << step;
      } else {
        EXPECT_GT(moved(step, name), 0.0) << name << " " << step;
      }
    }
    // The first update of AdamW has the size of the rate, whenever it comes: moments and their bias correction begin
    // with it, as in torch.optim for parameters that had no gradient before. With a count since the beginning of the
    // run it would be (1 - 0.9) / (1 - 0.9^10) of that, over the square root alike.
    if (type == "adamw" && first > 1) {
      EXPECT_NEAR(moved(first, name), 1e-2, 1e-4) << name;
    }
  }
  testing::run_in_parts(tiny_config(directory, "parts", set), {5});
  testing::expect_same_files(directory, "whole", "parts",
                             {"final/model.safetensors", "checkpoint-12/optimizer.safetensors"});
}

/// What is trained moves as if everything were: the gradient does not depend on what lies below.
TEST(Unfreezing, RestIsUntouchedAndEpochsAreSteps) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  std::vector<std::string> set = {"optimizer.type=sgd", "train.max_grad_norm=0", "train.steps=6",
                                  "schedule.type=constant"};
  const auto run = [&](const std::string& name, const std::string& setting) {
    std::vector<std::string> all = set;
    all.push_back(setting);
    Trainer trainer(tiny_config(directory, name, all), {.device = "cpu"});
    return trainer.run().directory;
  };
  // 24 samples are 6 batches: half an epoch is 3 steps.
  const std::string steps = run("steps", R"(train.gradual_unfreezing={"steps": 3})");
  const std::string epochs = run("epochs", R"(train.gradual_unfreezing={"epochs": 0.5})");
  const std::string frozen = run("frozen", R"(train.freeze=["wte", "wpe", "h.0"])");
  const std::string name = "transformer.h.0.mlp.c_fc.weight";
  EXPECT_EQ(directory.read("steps/final/model.safetensors"), directory.read("epochs/final/model.safetensors"));
  EXPECT_EQ(tensor_of(steps, name), tensor_of(frozen, name));
  EXPECT_NE(tensor_of(steps, "transformer.h.1.mlp.c_fc.weight"), tensor_of(frozen, "transformer.h.1.mlp.c_fc.weight"));
}

TEST(Unfreezing, WhatCannotBeIsNamed) {
  const testing::TemporaryDirectory directory;
  const auto error = [&](const std::string& value) {
    return testing::error_of([&] { tiny_config(directory, "run", {"train.gradual_unfreezing=" + value}); });
  };
  EXPECT_NE(error("{}").find("train.gradual_unfreezing"), std::string::npos);
  EXPECT_NE(error(R"({"steps": 1, "epochs": 1})").find("either"), std::string::npos);
  EXPECT_NE(error(R"({"steps": 0})").find("train.gradual_unfreezing.steps"), std::string::npos);
  EXPECT_NE(error("3").find("train.gradual_unfreezing"), std::string::npos);
}

}  // namespace
}  // namespace ondol
