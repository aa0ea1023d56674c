// ondol eval on tasks, by one process and by several that share the work.
#include <nlohmann/json.hpp>

#include <ondol/train/trainer.h>

#include "support/tiny_bert.h"
#include "tools/program.h"

namespace ondol::testing {
namespace {

using Arguments = std::vector<std::string>;

TEST(Eval, ATaskIsMeasuredAsInTheRun) {
  const TinyBert bert("BertForMaskedLM");
  const TemporaryDirectory directory;
  const std::string data = directory.write(
      "data.tsv",
      "text\tlabel\nthe cat sat\tanimal\nthe mat is red\tthing\nthe dog is in\tanimal\nthe log is blue\tthing\n"
      "the house is red\tthing\na dog sat on\tanimal\nthe cat is blue\tanimal\n");
  Trainer(TrainConfig::from_json(concat(R"({"model": {"from": ")", bert.path(), R"("}, "data": {"train": [{"path": ")",
                                        data, R"("}], "validation": [{"path": ")", data, R"("}], "sequence_length": 12},
      "objective": {"type": "classification"}, "optimizer": {"learning_rate": 1e-2},
      "train": {"steps": 5, "batch_size": 2}, "evaluation": {"every": 5}, "checkpoint": {"every": 0},
      "logging": {"tensorboard": false}, "output": ")",
                                        directory / "run", "\"}")),
          {.device = "cpu"})
      .run();
  const auto report = nlohmann::json::parse(directory.read("run/report.json"));
  const Arguments eval = {"eval", directory / "run/final", "--task", "classify", "--data", data, "--batch",
                          "2",    "--predictions"};
  std::string alone;
  for (const Arguments& launch : {Arguments{"--json"}, Arguments{"--json", "launch", "--processes", "2"},
                                  Arguments{"--json", "launch", "--processes", "3"}}) {
    Arguments command = launch;
    command.insert(command.end(), eval.begin(), eval.end());
    command.push_back(directory / "predictions.jsonl");
    const ProgramResult result = run_program(command);
    ASSERT_EQ(result.code, 0) << result.err;
    auto answer = nlohmann::json::parse(result.out);
    EXPECT_EQ(answer["samples"], 7);
    for (const char* metric : {"loss", "accuracy", "f1", "matthews_correlation"}) {
      EXPECT_EQ(answer["metric"][metric], report[metric]) << metric;
    }
    EXPECT_EQ(directory.read("predictions.jsonl"), directory.read("run/predictions.jsonl"));
    answer.erase("seconds");
    if (alone.empty()) alone = answer.dump();
    EXPECT_EQ(answer.dump(), alone);
  }
}

}  // namespace
}  // namespace ondol::testing
