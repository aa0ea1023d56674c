// Runs on labels whose model is split over ranks (parallel.tensor), against one process: losses and what is measured.
#include <cmath>

#include <gtest/gtest.h>

#include "support/tiny_bert.h"
#include "train/rank_runs.h"

namespace ondol {
namespace {

using testing::run_ranks;
using testing::TemporaryDirectory;

struct Task {
  const char *name, *file, *text, *objective;
};

void PrintTo(const Task& task, std::ostream* out) { *out << task.name; }

constexpr Task kTasks[] = {
    {"classification", "train.tsv",
     "text\tlabel\nthe cat sat\tanimal\nthe mat is red\tthing\nthe dog is in\tanimal\nthe log is blue\tthing\n"
     "the house is red\tthing\na dog sat on\tanimal\nthe cat is blue\tanimal\nthe log sat\tthing\n",
     R"({"type": "classification"})"},
    {"regression", "train.tsv",
     "text\tlabel\nthe cat sat\t1\nthe mat is red\t2.5\nthe dog is in\t0.5\nthe log is blue\t2\nthe house\t3\n",
     R"({"type": "regression"})"},
    {"tokens", "train.conll",
     "the O\nred O\ncats B-ANIMAL\nsat O\n\ndogs B-ANIMAL\nis O\nin O\nthe O\nhouse B-PLACE\n\nthe O\nlog B-PLACE\n",
     R"({"type": "token_classification"})"},
};

/// The epsilon of the optimizer keeps what has no effect, and no gradient but rounding, as it is: biases of keys.
class TensorLabels : public ::testing::TestWithParam<Task> {
 protected:
  std::vector<std::string> train(int ranks, int tensor, const std::string& run) const {
    const std::string data = directory.write(GetParam().file, GetParam().text);
    const std::string config =
        concat(R"({"model": {"from": ")", bert.path(), R"("}, "data": {"train": [{"path": ")", data,
               R"("}], "validation": [{"path": ")", data, R"("}], "sequence_length": 12}, "objective": )",
               GetParam().objective, R"(, "optimizer": {"learning_rate": 1e-3, "eps": 1e-5},
               "train": {"steps": 12, "batch_size": 4, "micro_batch_size": 2}, "evaluation": {"every": 6},
               "checkpoint": {"every": 0}, "parallel": {"tensor": )",
               tensor, R"(}, "output": ")", directory / run, "\"}");
    return testing::train_on(ranks, [&](int) { return TrainConfig::from_json(config); });
  }

  testing::TinyBert bert{"BertForMaskedLM"};
  TemporaryDirectory directory;
};

INSTANTIATE_TEST_SUITE_P(Tasks, TensorLabels, ::testing::ValuesIn(kTasks),
                         [](const auto& task) { return std::string(task.param.name); });

TEST_P(TensorLabels, AreThoseOfOneProcess) {
  ASSERT_EQ(train(1, 1, "one"), std::vector<std::string>(1));
  const auto wanted = testing::metrics_of(directory / "one");
  for (const int ranks : {2, 4}) {
    const std::string run = concat("on", ranks);
    ASSERT_EQ(train(ranks, 2, run), std::vector<std::string>(static_cast<size_t>(ranks)));
    const auto got = testing::metrics_of(directory / run);
    ASSERT_EQ(got.size(), wanted.size());
    int64_t measured = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      for (const auto& [key, value] : wanted[i].items()) {
        const bool of_tasks =
            wanted[i].contains("eval_loss") && value.is_number_float() && key.find("second") == std::string::npos;
        if (key != "loss" && !of_tasks) continue;
        ASSERT_TRUE(got[i].contains(key)) << key;
        const double number = value;
        const double tolerance = key.ends_with("loss") ? 1e-6 : 1e-4;
        EXPECT_NEAR(got[i][key].get<double>(), number, tolerance * std::abs(number)) << key << " in line " << i;
        measured += of_tasks;
      }
    }
    EXPECT_GT(measured, 2);
    const SafetensorsFile one(directory / "one/final/model.safetensors");
    const SafetensorsFile split(directory / (run + "/final/model.safetensors"));
    ASSERT_EQ(split.entries().size(), one.entries().size());
    for (const auto& entry : one.entries()) {
      const std::vector<float> a = split.tensor(entry.name).to_vector<float>();
      const std::vector<float> b = one.tensor(entry.name).to_vector<float>();
      ASSERT_EQ(a.size(), b.size()) << entry.name;
      for (size_t i = 0; i < b.size(); ++i) ASSERT_NEAR(a[i], b[i], 2e-4) << entry.name << "[" << i << "]";
    }
  }
}

}  // namespace
}  // namespace ondol
