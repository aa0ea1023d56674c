// Runs that train an adapter: files, resume, frozen base.
#include <gtest/gtest.h>

#include <ondol/models/lora.h>

#include "support/error_of.h"
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
  struct Stop : TrainObserver {
    void on_step(const StepMetrics& metrics) override {
      stop = stop || metrics.step == 5;
      losses.push_back(metrics.loss);
    }
    std::vector<double> losses;
    std::atomic<bool> stop{false};
  };
  Stop watcher;
  Trainer whole(config("whole"), {.device = "cpu", .observer = &watcher});
  EXPECT_TRUE(whole.run().finished);
  EXPECT_LT(watcher.losses.back(), watcher.losses.front());
  Stop stop;
  Trainer first(config("parts"), {.device = "cpu", .stop = &stop.stop, .observer = &stop});
  EXPECT_FALSE(first.run().finished);
  Trainer second(config("parts"), {.device = "cpu"});
  EXPECT_TRUE(second.run().finished);
  for (const char* file : {"final/adapter_model.safetensors", "final/adapter_config.json",
                           "checkpoint-12/optimizer.safetensors", "checkpoint-12/adapter_model.safetensors"}) {
    EXPECT_FALSE(directory_.read(std::string("whole/") + file).empty()) << file;
    EXPECT_EQ(directory_.read(std::string("whole/") + file), directory_.read(std::string("parts/") + file)) << file;
  }
  EXPECT_FALSE(std::filesystem::exists(directory_ / "whole/final/model.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "whole/checkpoint-12/extra.safetensors"));
  // Two layers: A (2, 16) and B (48, 2); A (2, 64) and B (16, 2).
  const SafetensorsFile state(directory_ / "whole/checkpoint-12/optimizer.safetensors");
  EXPECT_EQ(state.tensor("exp_avg").numel(), 2 * (2 * 16 + 48 * 2 + 2 * 64 + 16 * 2));
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

}  // namespace
}  // namespace ondol
