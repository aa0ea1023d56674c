// Adafactor as transformers computes it, Lion and LAMB through their configuration, and groups of parameters.
#include <cmath>

#include <gtest/gtest.h>

#include "support/error_of.h"
#include "train/parameter_groups.h"
#include "train/run_watch.h"
#include "train/tiny_run.h"

namespace ondol {
namespace {

using testing::tiny_config;

Tensor waves(const Shape& shape, double seed, float size = 1.0f) {
  std::vector<float> values;
  for (int64_t i = 0; i < shape.numel(); ++i) {
    values.push_back(size * static_cast<float>(std::sin(static_cast<double>(i) * 0.9 + seed)));
  }
  return Tensor::from_vector(values, shape);
}

struct Parameters {
  Parameters() {
    matrix = store.add("matrix", {3, 5}, Init::zeros());
    vector = store.add("vector", {7}, Init::zeros());
    store.materialize(DType::f32, {});
    store.enable_gradients();
    matrix.value().copy_from(waves({3, 5}, 1));
    vector.value().copy_from(waves({7}, 2));
  }
  void run(const OptimizerConfig& config) {
    const auto optimizer = make_optimizer(config, store);
    for (int step = 1; step <= 5; ++step) {
      store.clear_gradients();
      matrix.add_grad(waves({3, 5}, 10 + step));
      vector.add_grad(waves({7}, 20 + step, 0.1f));
      optimizer->step({.learning_rate = config.learning_rate, .update = step});
    }
  }
  ParameterStore store;
  Variable matrix, vector;
};

void expect_near(const Variable& found, const std::vector<float>& wanted) {
  const std::vector<float> values = found.value().to_vector<float>();
  ASSERT_EQ(values.size(), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(values[i], wanted[i], 1e-6) << i;
}

/// Five steps of transformers.Adafactor (5.23).
TEST(Adafactor, FollowsTransformersWithItsOwnRate) {
  Parameters parameters;
  OptimizerConfig config;
  config.type = "adafactor";
  config.weight_decay = 0.0;
  config.adafactor.relative_step = true;
  parameters.run(config);
  expect_near(parameters.matrix,
              {0.8347901f, 0.9332176f, 0.3244327f, -0.5291134f, -0.9826198f, -0.6932523f, 0.1237301f, 0.8486192f,
               0.9291935f, 0.3086742f, -0.5424643f, -0.9847719f, -0.6813162f, 0.1376459f, 0.8521323f});
  expect_near(parameters.vector,
              {0.9207087f, 0.2450474f, -0.6092744f, -1.008845f, -0.6428704f, 0.2043871f, 0.9029275f});
}

TEST(Adafactor, FollowsTransformersWithAGivenRate) {
  Parameters parameters;
  OptimizerConfig config;
  config.type = "adafactor";
  config.learning_rate = 1e-2;
  config.weight_decay = 0.1;
  config.decay = "all";
  config.adafactor.scale_parameter = false;
  config.adafactor.beta1 = 0.9;
  parameters.run(config);
  expect_near(parameters.matrix,
              {0.8394712f, 0.9377201f, 0.325647f, -0.5323254f, -0.9877397f, -0.6961098f, 0.124254f, 0.8515102f,
               0.9330732f, 0.3098205f, -0.5459294f, -0.9896978f, -0.684089f, 0.1390941f, 0.856868f});
  expect_near(parameters.vector,
              {0.9065129f, 0.2414543f, -0.6026653f, -0.9942582f, -0.6321084f, 0.2050815f, 0.8909527f});
}

class OptimizerRun : public ::testing::TestWithParam<std::tuple<const char*, const char*>> {};
INSTANTIATE_TEST_SUITE_P(Trainer, OptimizerRun,
                         ::testing::Combine(::testing::Values("adafactor", "lamb", "lion"),
                                            ::testing::Values("f32", "bf16")));

TEST_P(OptimizerRun, LearnsAndResumesIdentically) {
  const auto& [type, dtype] = GetParam();
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  const std::vector<std::string> set = {std::string("optimizer.type=") + type, std::string("train.dtype=") + dtype,
                                        "optimizer.learning_rate=0.02", "optimizer.layer_decay=0.9",
                                        R"(optimizer.groups=[{"match": "ln_f", "learning_rate": 0.1}])"};
  testing::RunWatch watch;
  EXPECT_TRUE(Trainer(tiny_config(directory, "whole", set), watch.watched()).run().finished);
  EXPECT_LT(watch.losses.back(), watch.losses.front());
  testing::run_in_parts(tiny_config(directory, "parts", set), {7});
  testing::expect_same_files(directory, "whole", "parts",
                             {"final/model.safetensors", "checkpoint-12/optimizer.safetensors"});
  const TrainConfig config = tiny_config(directory, "x", set);
  EXPECT_EQ(TrainConfig::from_json(config.resolved_json()).resolved_json(), config.resolved_json());
}

/// BEiT: lr decay^(L + 1 - depth).
TEST(ParameterGroups, RatesFallFromHeadToEmbeddings) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  const auto model = create_model(directory / "model.json", DType::f32, {}, 1);
  OptimizerConfig config;
  config.learning_rate = 1e-3;
  config.layer_decay = 0.5;
  config.groups = {{"*.bias", {}, 0.0}, {"h.1.attn", 3e-3, {}}};
  const std::vector<ParameterSpan> spans = parameter_spans(config, *model);
  int64_t covered = 0;
  for (const ParameterSpan& span : spans) covered += span.rows * span.cols;
  EXPECT_EQ(covered, model->parameters().count());
  const auto span_of = [&](const std::string& name) {
    for (const ParameterStore::Entry& entry : model->parameters().entries()) {
      for (const ParameterSpan& span : spans) {
        if (entry.name == name && entry.offset == span.begin) return span;
      }
    }
    ADD_FAILURE() << name;
    return ParameterSpan();
  };
  EXPECT_FLOAT_EQ(span_of("transformer.ln_f.weight").rate_scale, 1.0f);
  EXPECT_FLOAT_EQ(span_of("transformer.h.1.mlp.c_fc.weight").rate_scale, 0.5f);
  EXPECT_FLOAT_EQ(span_of("transformer.h.0.mlp.c_fc.weight").rate_scale, 0.25f);
  EXPECT_FLOAT_EQ(span_of("transformer.wte.weight").rate_scale, 0.125f);
  EXPECT_FLOAT_EQ(span_of("transformer.h.1.attn.c_attn.weight").rate_scale, 3.0f);
  EXPECT_FLOAT_EQ(span_of("transformer.h.1.attn.c_attn.weight").weight_decay, 0.01f);
  EXPECT_FLOAT_EQ(span_of("transformer.h.0.mlp.c_fc.bias").weight_decay, 0.0f);
  config.groups = {{"h.7", {}, 0.0}};
  EXPECT_EQ(testing::error_of([&] { parameter_spans(config, *model); }),
            "optimizer.groups \"h.7\" matches no parameter of the model");
}

/// One step of plain gradient descent moves each tensor by its own rate.
TEST(ParameterGroups, RatesReachTheWeights) {
  const testing::TemporaryDirectory directory;
  testing::write_tiny_inputs(directory);
  const auto run = [&](const std::string& name, const std::vector<std::string>& more) {
    std::vector<std::string> set = {"optimizer.type=sgd",      "optimizer.weight_decay=0", "train.steps=1",
                                    "train.max_grad_norm=0",   "checkpoint.every=1",       "schedule.type=constant",
                                    "schedule.warmup_steps=0", "evaluation.every=0"};
    set.insert(set.end(), more.begin(), more.end());
    Trainer trainer(tiny_config(directory, name, set), {.device = "cpu"});
    return trainer.run().directory + "/model.safetensors";
  };
  const SafetensorsFile none(run("none", {"optimizer.learning_rate=0"})), all(run("all", {}));
  const SafetensorsFile grouped(run("grouped", {R"(optimizer.groups=[{"match": "c_proj", "learning_rate": 0.04}])"}));
  for (const SafetensorsEntry& entry : none.entries()) {
    const auto start = none.tensor(entry.name).to_vector<double>(), plain = all.tensor(entry.name).to_vector<double>();
    const auto found = grouped.tensor(entry.name).to_vector<double>();
    const double factor = entry.name.find("c_proj") != std::string::npos ? 4.0 : 1.0;
    for (size_t i = 0; i < start.size(); ++i) {
      EXPECT_NEAR(found[i] - start[i], factor * (plain[i] - start[i]), 1e-6) << entry.name;
    }
  }
}

}  // namespace
}  // namespace ondol
