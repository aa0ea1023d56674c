// What `ondol train` shows on standard error: a bar on a terminal, plain lines elsewhere.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include <ondol/train/trainer.h>

class TrainProgress final : public ondol::TrainObserver {
 public:
  explicit TrainProgress(bool quiet);
  ~TrainProgress() override;

  void on_start(const ondol::RunInfo& info) override;
  void on_step(const ondol::StepMetrics& metrics) override;
  void on_evaluation(const ondol::EvaluationMetrics& metrics) override;
  void on_checkpoint(const std::string& directory) override;
  void on_warning(const std::string& text) override;

 private:
  using Clock = std::chrono::steady_clock;
  void show_bar(const ondol::StepMetrics& metrics);
  void clear_bar();
  void line(const std::string& text);
  std::string numbers(const ondol::StepMetrics& metrics) const;
  std::string time_left(const ondol::StepMetrics& metrics) const;
  void add_ranks(const std::vector<ondol::RankMetrics>& ranks);
  std::string communication() const;

  bool quiet_;
  bool terminal_;
  bool bar_shown_ = false;
  int64_t first_step_ = 1;
  int64_t total_steps_ = 0;
  double step_seconds_ = 0.0, data_seconds_ = 0.0;  // of all steps so far
  std::vector<ondol::RankMetrics> ranks_;           // sums of them, by rank
  Clock::time_point started_;
  Clock::time_point shown_;
};

/// 1234567 as "1.23M".
std::string short_count(double value);
/// 1536 as "1.5 KiB".
std::string short_bytes(double bytes);
