#include <ondol/train/config.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "support/temporary_directory.h"

namespace ondol {
namespace {

const char* const kExample = R"({
  "model":     {"config": "configs/models/llama-15m.json"},
  "tokenizer": {"path": "runs/tokenizer"},
  "data": {
    "train":      [{"path": "corpus/*.txt", "weight": 1.0}],
    "validation": [{"path": "corpus/valid.txt"}],
    "sequence_length": 256, "packing": true, "shuffle_seed": 1
  },
  "objective": {"type": "clm"},
  "optimizer": {"type": "adamw", "learning_rate": 3e-4, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1,
                "decay": "matrices"},
  "schedule":  {"type": "cosine", "warmup_steps": 100, "min_learning_rate": 3e-5},
  "train": {
    "steps": 2000, "batch_size": 32, "micro_batch_size": 8, "max_grad_norm": 1.0, "label_smoothing": 0.0,
    "dtype": "bf16", "seed": 1234, "deterministic": true
  },
  "evaluation": {"every": 200, "batches": 20},
  "checkpoint": {"every": 500, "keep": 3},
  "logging":    {"every": 1, "tensorboard": true},
  "parallel":   {"data": 1, "zero_stage": 0}
})";

const char* const kShort = R"({
  "model": {"from": "m"}, "data": {"train": [{"path": "x.safetensors"}]}, "train": {"steps": 10, "batch_size": 4}})";

/// The message and hint of the error that a configuration with these overrides meets.
std::string error_of(const char* text, const std::vector<std::string>& overrides) {
  try {
    TrainConfig::from_json(text, overrides, "c.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    return std::string(error.what()) + " | " + error.hint();
  }
  return "no error";
}

TEST(TrainConfig, ReadsTheDocumentedExample) {
  const TrainConfig config = TrainConfig::from_json(kExample);
  EXPECT_EQ(config.model.config, "configs/models/llama-15m.json");
  EXPECT_EQ(config.tokenizer, "runs/tokenizer");
  ASSERT_EQ(config.stages.size(), 1u);
  const StageConfig& stage = config.stages[0];
  EXPECT_EQ(stage.steps, 2000);
  EXPECT_EQ(stage.batch_size, 32);
  EXPECT_EQ(stage.micro_batch_size, 8);
  EXPECT_EQ(stage.data.sequence_length, 256);
  EXPECT_EQ(stage.data.train[0].path, "corpus/*.txt");
  EXPECT_EQ(stage.learning_rate, 3e-4);
  EXPECT_EQ(stage.schedule.type, "cosine");
  EXPECT_EQ(stage.schedule.steps, 2000);
  EXPECT_EQ(stage.schedule.warmup_steps, 100);
  EXPECT_EQ(config.optimizer.beta2, 0.95);
  EXPECT_EQ(config.dtype, DType::bf16);
  EXPECT_EQ(config.evaluation.every, 200);
  EXPECT_EQ(config.checkpoint.keep, 3);
}

TEST(TrainConfig, DefaultsAreWrittenOutAndReadBack) {
  for (const char* text : {kExample, kShort}) {
    const TrainConfig config = TrainConfig::from_json(text);
    const std::string resolved = config.resolved_json();
    EXPECT_EQ(TrainConfig::from_json(resolved).resolved_json(), resolved);
    EXPECT_EQ(TrainConfig::from_json(resolved).hash(), config.hash());
    EXPECT_EQ(TrainConfig::from_json(resolved, {"output=elsewhere"}).hash(), config.hash());
  }
  const auto resolved = nlohmann::json::parse(TrainConfig::from_json(kShort).resolved_json());
  EXPECT_EQ(resolved["train"]["micro_batch_size"], 4);
  EXPECT_EQ(resolved["optimizer"]["betas"], (std::vector<double>{0.9, 0.999}));
  EXPECT_EQ(resolved["schedule"]["type"], "constant");
  EXPECT_EQ(resolved["data"]["shuffle"], true);
}

TEST(TrainConfig, RunDirectoryIsNamedAfterTheFile) {
  const testing::TemporaryDirectory directory;
  const std::string path = directory.write("my-run.json", kShort);
  EXPECT_EQ(TrainConfig::from_file(path).output, "runs/my-run");
  EXPECT_EQ(TrainConfig::from_file(path, {"output=elsewhere"}).output, "elsewhere");
}

TEST(TrainConfig, Overrides) {
  const TrainConfig config = TrainConfig::from_json(
      kShort, {"train.steps=77", "optimizer.betas=[0.5,0.6]", "data.train.0.path=y.txt", "data.train.1.path=z.txt",
               "schedule.type=linear", "tokenizer.path=12", "logging.tensorboard=false", "tokenizer.path=\"12\""});
  EXPECT_EQ(config.stages[0].steps, 77);
  EXPECT_EQ(config.optimizer.beta1, 0.5);
  EXPECT_EQ(config.stages[0].data.train[0].path, "y.txt");
  EXPECT_EQ(config.stages[0].data.train.at(1).path, "z.txt");
  EXPECT_EQ(config.stages[0].schedule.type, "linear");
  EXPECT_EQ(config.tokenizer, "12");
  EXPECT_FALSE(config.logging.tensorboard);
  EXPECT_NE(error_of(kShort, {"train.steps"}).find("expected KEY=VALUE"), std::string::npos);
  EXPECT_NE(error_of(kShort, {"train..steps=1"}).find("empty key"), std::string::npos);
  EXPECT_NE(error_of(kShort, {"train.steps.x=1"}).find("nothing lies below"), std::string::npos);
  EXPECT_NE(error_of(kShort, {"data.train.7.path=q"}).find("no element"), std::string::npos);
}

TEST(TrainConfig, MistakesAreNamed) {
  struct Case {
    std::vector<std::string> overrides;
    const char* expected;
  };
  const Case cases[] = {
      {{"train.stpes=3"}, "did you mean \"train.steps\"?"},
      {{"optimiser.learning_rate=3"}, "unknown key \"optimiser\""},
      {{"data.train.0.pth=x"}, "data.train[0].pth"},
      {{"train.steps=9223372036854775807"}, "key \"train.steps\": must be at most"},
      {{"train.batch_size=9223372036854775807"}, "key \"train.batch_size\": must be at most"},
      {{"schedule.type=wsd", "schedule.decay_steps=9223372036854775807"}, "key \"schedule.decay_steps\""},
      {{"data.document_separator="}, "key \"data.document_separator\": must not be empty"},
      {{"train.steps=0"}, "key \"train.steps\": must be at least 1"},
      {{"train.steps=1.5"}, "expected an integer"},
      {{"train.steps=many"}, "expected an integer"},
      {{"train.batch_size=6", "train.micro_batch_size=4"}, "must divide train.batch_size (6)"},
      {{"train.dtype=f16"}, "expected one of f32, bf16"},
      {{"train.on_non_finite=ignore"}, "expected one of stop, skip"},
      {{"optimizer.learning_rate=1e-4", "schedule.min_learning_rate=1e-3"}, "is above optimizer.learning_rate"},
      {{"schedule.warmup_steps=11"}, "11 steps of warm-up in a schedule of 10"},
      {{"schedule.type=wsd", "schedule.warmup_steps=8", "schedule.decay_steps=5"}, "do not fit into 10 steps"},
      {{"schedule.type=wsd", "schedule.decay_steps=5", "schedule.decay_fraction=0.5"}, "schedule.decay_fraction"},
      {{"schedule.decay_steps=5"}, "only schedule.type \"wsd\" has it"},
      {{"schedule.type=cosin"}, "did you mean \"cosine\"?"},
      {{"optimizer.betas=[0.9]"}, "expected two numbers"},
      {{"optimizer.betas=[0.9,1.0]"}, "must be below 1"},
      {{"optimizer.momentum=0.9"}, "only optimizer.type \"sgd\" has it"},
      {{"optimizer.type=sgd", "optimizer.nesterov=true"}, "needs optimizer.momentum"},
      {{"model.config=x.json"}, "needs either \"config\""},
      {{"model={}"}, "needs either \"config\""},
      {{"data.train=[]"}, "names no data"},
      {{"evaluation.every=5"}, "there is no validation data"},
      {{"data.validation_fraction=0.1", "data.validation=[{\"path\":\"v\"}]"}, "is given already"},
      {{"objective.type=mlmm"}, "unknown value \"mlmm\""},
      {{"objective.mask=0.1"}, "unknown key \"objective.mask\""},
      {{"parallel.zero_stage=4"}, "must be at most 3"},
      {{"stages=[]"}, "at least one stage"},
      {{"stages=[{\"optimizer\":{\"eps\":1}}]"}, "stages[0].optimizer.eps"},
  };
  for (const Case& c : cases) {
    const std::string message = error_of(kShort, c.overrides);
    EXPECT_NE(message.find(c.expected), std::string::npos) << c.overrides[0] << ": " << message;
    EXPECT_NE(message.find("c.json"), std::string::npos) << message;
  }
  EXPECT_EQ(TrainConfig::from_json(kShort, {"stages=null"}).stages.size(), 1u);  // null counts as absent
  EXPECT_THROW(TrainConfig::from_json(kShort, {"train.stpes=3"}), UsageError);   // by type, not only by kind()
  EXPECT_THROW(TrainConfig::from_json(kShort, {"train.steps=x"}), UsageError);
  EXPECT_NE(error_of(kShort, {R"(train={"steps":1,"steps":2})"}).find("duplicate key \"steps\""), std::string::npos);
  EXPECT_EQ(error_of(kShort, {R"(objective={"type":"clm","x":1})"}).find("did you mean"), std::string::npos);
  EXPECT_THROW(TrainConfig::from_json("{}"), UsageError);
  EXPECT_THROW(TrainConfig::from_json("{"), UsageError);
  EXPECT_NE(error_of("{}", {}).find("missing key \"model\""), std::string::npos);
  EXPECT_NE(error_of("[1]", {}).find("expected a JSON object"), std::string::npos);
  EXPECT_NE(error_of("{\"model\":", {}).find("cannot parse JSON"), std::string::npos);
}

TEST(TrainConfig, ScheduleDefaultsFollowTheRun) {
  const auto schedule = [](const std::vector<std::string>& overrides) {
    return TrainConfig::from_json(kShort, overrides).stages[0].schedule;
  };
  EXPECT_EQ(schedule({"schedule.type=wsd"}).decay_steps, 1);
  EXPECT_EQ(schedule({"schedule.type=wsd", "schedule.decay_fraction=0.5"}).decay_steps, 5);
  EXPECT_EQ(schedule({"schedule.type=inverse_sqrt", "schedule.warmup_steps=4"}).timescale, 4);
  EXPECT_EQ(schedule({"schedule.type=cosine", "schedule.steps=20"}).steps, 20);
}

TEST(TrainConfig, StagesOverrideTheirPart) {
  const TrainConfig config = TrainConfig::from_json(kShort, {R"(stages=[
      {"train": {"steps": 5}},
      {"data": {"sequence_length": 64}, "train": {"steps": 7, "batch_size": 2}, "optimizer": {"learning_rate": 1e-5},
       "schedule": {"type": "linear"}}])"});
  ASSERT_EQ(config.stages.size(), 2u);
  EXPECT_EQ(config.total_steps(), 12);
  EXPECT_EQ(config.stages[0].batch_size, 4);
  EXPECT_EQ(config.stages[1].batch_size, 2);
  EXPECT_EQ(config.stages[1].micro_batch_size, 2);
  EXPECT_EQ(config.stages[1].data.train[0].path, "x.safetensors");
  EXPECT_EQ(config.stages[1].data.sequence_length, 64);
  EXPECT_EQ(config.stages[1].learning_rate, 1e-5);
  EXPECT_EQ(config.stages[1].schedule.type, "linear");
  EXPECT_EQ(config.stages[1].schedule.steps, 7);
  EXPECT_EQ(config.stages[0].schedule.type, "constant");
  EXPECT_EQ(TrainConfig::from_json(config.resolved_json()).resolved_json(), config.resolved_json());
}

}  // namespace
}  // namespace ondol
