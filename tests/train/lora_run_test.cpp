// Runs that train an adapter: files, resume, frozen base.
#include <gtest/gtest.h>

#include <ondol/models/lora.h>

#include "support/error_of.h"
#include "train/run_watch.h"
#include "train/tiny_run.h"

namespace ondol {
namespace {

using testing::tiny_config;

class LoraRun : public ::testing::TestWithParam<const char*> {
 protected:
  LoraRun() {
    testing::write_tiny_inputs(directory_);
    save_model(*create_model(directory_ / "model.json", DType::f32, {}, 5), directory_ / "base");
  }
  TrainConfig config(const std::string& run) const {
    return tiny_config(
        directory_, run,
        {std::string("train.dtype=") + GetParam(), "model.config=null", "model.from=" + (directory_ / "base"),
         R"(lora={"rank": 2, "dropout": 0.1, "targets": ["c_attn", "mlp.c_proj"]})"});
  }
  testing::TemporaryDirectory directory_;
};
INSTANTIATE_TEST_SUITE_P(Trainer, LoraRun, ::testing::Values("f32", "bf16"));

TEST_P(LoraRun, ResumedRunIsIdenticalAndKeepsTheBase) {
  testing::RunWatch watch;
  EXPECT_TRUE(Trainer(config("whole"), watch.watched()).run().finished);
  EXPECT_LT(watch.losses.back(), watch.losses.front());
  testing::run_in_parts(config("parts"), {5});
  testing::expect_same_files(directory_, "whole", "parts",
                             {"final/adapter_model.safetensors", "final/adapter_config.json",
                              "checkpoint-12/optimizer.safetensors", "checkpoint-12/adapter_model.safetensors"});
  EXPECT_FALSE(std::filesystem::exists(directory_ / "whole/final/model.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "whole/checkpoint-12/extra.safetensors"));
  // Two layers of four matrices, each less than a block.
  const SafetensorsFile state(directory_ / "whole/checkpoint-12/optimizer.safetensors");
  EXPECT_EQ(state.tensor("exp_avg").numel(), 2 * 4 * ParameterStore::kBlock);
  const auto trained = load_model(directory_ / "whole/final", {.device = "cpu"});
  const auto base = load_model(directory_ / "base", {.device = "cpu", .dtype = trained->dtype()});
  for (size_t i = 0; i < base->weights().size(); ++i) {
    const WeightSlot &a = base->weights()[i], &b = trained->weights()[i];
    EXPECT_EQ(a.view(a.parameter.value()).to_vector<float>(), b.view(b.parameter.value()).to_vector<float>()) << a.name;
  }
}

TEST_P(LoraRun, ConfigurationsThatCannotBeAreRefused) {
  const auto error = [&](const std::vector<std::string>& set) {
    return testing::error_of([&] { tiny_config(directory_, "x", set); });
  };
  EXPECT_NE(error({R"(lora={"targets": ["c_attn"]})"}).find("adapters need a trained model"), std::string::npos);
  EXPECT_NE(error({R"(lora={"targets": []})"}).find("names no layer"), std::string::npos);
  EXPECT_NE(error({R"(lora={"rank": 0, "targets": ["c_attn"]})"}).find("lora.rank"), std::string::npos);
  EXPECT_NE(error({"model.config=null", "model.from=x", R"(lora={"targets": ["c_attn"]})", "train.freeze_layers=1"})
                .find("train.freeze_layers"),
            std::string::npos);
  const TrainConfig once = config("x");
  EXPECT_EQ(TrainConfig::from_json(once.resolved_json()).resolved_json(), once.resolved_json());
}

/// The directory of an adapter is what another run begins with: its values, rank and targets.
TEST_P(LoraRun, TrainingGoesOnFromAnAdapterDirectory) {
  Trainer first(config("first"), {.device = "cpu"});
  EXPECT_TRUE(first.run().finished);
  const auto from_adapter = [&](const std::string& run, const std::vector<std::string>& more = {}) {
    std::vector<std::string> set = {std::string("train.dtype=") + GetParam(), "model.config=null",
                                    "model.from=" + (directory_ / "first/final"), "schedule.type=constant",
                                    "schedule.warmup_steps=0"};
    set.insert(set.end(), more.begin(), more.end());
    return tiny_config(directory_, run, set);
  };
  Trainer still(from_adapter("still", {"train.steps=1", "optimizer.learning_rate=0"}), {.device = "cpu"});
  EXPECT_TRUE(still.run().finished);
  EXPECT_EQ(directory_.read("first/final/adapter_model.safetensors"),
            directory_.read("still/final/adapter_model.safetensors"));
  EXPECT_EQ(directory_.read("first/final/adapter_config.json"), directory_.read("still/final/adapter_config.json"));

  struct Watcher : TrainObserver {
    void on_step(const StepMetrics& metrics) override {
      stop = metrics.step == stop_at;
      losses.push_back(metrics.loss);
    }
    std::vector<double> losses;
    int64_t stop_at = -1;
    std::atomic<bool> stop{false};
  };
  Watcher before, whole, parts;
  Trainer from_base(config("again"), {.device = "cpu", .observer = &before});
  from_base.run();
  Trainer on(from_adapter("whole"), {.device = "cpu", .observer = &whole});
  EXPECT_TRUE(on.run().finished);
  EXPECT_LT(whole.losses.front(), before.losses.front());
  EXPECT_LT(whole.losses.back(), whole.losses.front());
  parts.stop_at = 5;
  Trainer half(from_adapter("parts"), {.device = "cpu", .stop = &parts.stop, .observer = &parts});
  EXPECT_FALSE(half.run().finished);
  parts.stop_at = -1;
  Trainer rest(from_adapter("parts"), {.device = "cpu", .observer = &parts});
  EXPECT_TRUE(rest.run().finished);
  EXPECT_EQ(directory_.read("whole/final/adapter_model.safetensors"),
            directory_.read("parts/final/adapter_model.safetensors"));

  for (const char* setting : {R"(lora={"rank": 4, "targets": ["c_attn"]})", "train.freeze_layers=1"}) {
    const std::string error =
        testing::error_of([&] { Trainer(from_adapter("error", {setting}), {.device = "cpu"}).run(); });
    EXPECT_NE(error.find("adapter"), std::string::npos) << error;
  }
}

}  // namespace
}  // namespace ondol
