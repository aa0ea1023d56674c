// What a run writes while it goes: metrics.jsonl and TensorBoard events.
#pragma once

#include <memory>
#include <string>

#include <ondol/train/trainer.h>

#include "train/event_writer.h"
#include "train/metrics_log.h"

namespace ondol {

class RunLog {
 public:
  /// Forgets what the directory's metrics hold after step `done`.
  RunLog(const std::string& directory, int64_t done, bool tensorboard);

  void step(const StepMetrics& metrics);
  void evaluation(const EvaluationMetrics& metrics);
  /// Makes the metrics durable.
  void sync();

 private:
  MetricsLog metrics_;
  std::unique_ptr<EventWriter> events_;
};

/// A line of metrics.jsonl, without the line break. Numbers survive being read back; what is not finite is null.
std::string metrics_line(const StepMetrics& metrics);
std::string metrics_line(const EvaluationMetrics& metrics);

}  // namespace ondol
