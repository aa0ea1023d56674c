#include "train/metrics_log.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "support/temporary_directory.h"
#include "train/run_log.h"

namespace ondol {
namespace {

TEST(MetricsLog, ContinuesAfterTheGivenStep) {
  const testing::TemporaryDirectory directory;
  directory.write("metrics.jsonl",
                  "{\"step\":1,\"loss\":2}\n{\"step\":2}\n{\"step\":2,\"eval_loss\":1}\n{\"step\":3}\n");
  {
    MetricsLog log(directory.path(), 2);
    log.append("{\"step\":3,\"loss\":7}");
    log.sync();
  }
  EXPECT_EQ(directory.read("metrics.jsonl"),
            "{\"step\":1,\"loss\":2}\n{\"step\":2}\n{\"step\":2,\"eval_loss\":1}\n{\"step\":3,\"loss\":7}\n");
}

TEST(MetricsLog, DropsALineCutShort) {
  const testing::TemporaryDirectory directory;
  directory.write("metrics.jsonl", "{\"step\":1}\n{\"step\":2}\n{\"ste");
  { MetricsLog log(directory.path(), 9); }
  EXPECT_EQ(directory.read("metrics.jsonl"), "{\"step\":1}\n{\"step\":2}\n");
}

TEST(MetricsLog, StartsEmptyWithoutACheckpoint) {
  const testing::TemporaryDirectory directory;
  directory.write("metrics.jsonl", "{\"step\":1}\n");
  { MetricsLog log(directory.path(), 0); }
  EXPECT_EQ(directory.read("metrics.jsonl"), "");
}

TEST(MetricsLog, LinesHaveTheDocumentedKeysAndRoundTrip) {
  StepMetrics metrics;
  metrics.step = 7;
  metrics.loss = 0.1 + 0.2;
  metrics.grad_norm = 1.0 / 3.0;
  metrics.learning_rate = 3e-4;
  metrics.tokens = 1234567890123;
  metrics.samples = 56;
  metrics.seconds = 0.25;
  metrics.tokens_per_second = 4096;
  const std::string line = metrics_line(metrics);
  EXPECT_TRUE(line.starts_with("{\"step\":7,\"loss\":0.30000000000000004,\"grad_norm\":0.3333333333333333,")) << line;
  const auto parsed = nlohmann::json::parse(line);
  EXPECT_EQ(parsed["loss"].get<double>(), 0.1 + 0.2);
  EXPECT_EQ(parsed["tokens"].get<int64_t>(), 1234567890123);
  EXPECT_TRUE(parsed["mfu"].is_null());
  for (const char* key : {"learning_rate", "samples", "seconds", "tokens_per_second"})
    EXPECT_TRUE(parsed.contains(key));
  metrics.loss = std::numeric_limits<double>::quiet_NaN();
  metrics.skipped = true;
  EXPECT_TRUE(nlohmann::json::parse(metrics_line(metrics))["loss"].is_null());
  EXPECT_EQ(metrics_line(EvaluationMetrics{.step = 3, .loss = 1.5, .targets = 10, .seconds = 1.0}),
            "{\"step\":3,\"eval_loss\":1.5,\"eval_targets\":10,\"eval_seconds\":1.0}");
}

}  // namespace
}  // namespace ondol
