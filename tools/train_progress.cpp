#include "train_progress.h"

#include <algorithm>
#include <cstdio>

#include <sys/ioctl.h>
#include <unistd.h>

#include "output.h"

using ondol::concat;

namespace {

template <class... Args>
std::string formatted(const char* format, Args... args) {
  char text[256];
  std::snprintf(text, sizeof text, format, args...);
  return text;
}

int terminal_columns() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/// Of the time of all ranks, what they spend waiting for collectives.
double exposed_share(const std::vector<ondol::RankMetrics>& ranks) {
  double exposed = 0.0, seconds = 0.0;
  for (const ondol::RankMetrics& rank : ranks) {
    exposed += rank.exposed_seconds;
    seconds += rank.seconds;
  }
  return exposed / seconds;
}

std::string duration(double seconds) {
  const auto whole = static_cast<long long>(std::max(0.0, seconds) + 0.5);
  if (whole < 60) return formatted("%llds", whole);
  if (whole < 3600) return formatted("%lldm%02llds", whole / 60, whole % 60);
  return formatted("%lldh%02lldm", whole / 3600, whole / 60 % 60);
}

}  // namespace

std::string short_count(double value) {
  if (value < 1e3) return formatted("%.0f", value);
  if (value < 1e6) return formatted(value < 1e4 ? "%.2fk" : "%.1fk", value / 1e3);
  if (value < 1e9) return formatted("%.2fM", value / 1e6);
  return formatted("%.2fG", value / 1e9);
}

std::string short_bytes(double bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1024 && unit < 4) {
    bytes /= 1024;
    ++unit;
  }
  return formatted(unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

TrainProgress::TrainProgress(bool quiet) : quiet_(quiet), terminal_(::isatty(STDERR_FILENO) == 1) {}

TrainProgress::~TrainProgress() {
  if (bar_shown_) std::fputc('\n', stderr);
}

void TrainProgress::clear_bar() {
  if (!bar_shown_) return;
  std::fputs("\r\x1b[K", stderr);
  bar_shown_ = false;
}

void TrainProgress::line(const std::string& text) {
  clear_bar();
  if (!quiet_) log(LogLevel::info, text);
}

void TrainProgress::on_start(const ondol::RunInfo& info) {
  first_step_ = info.first_step;
  total_steps_ = info.total_steps;
  started_ = shown_ = Clock::now();
  line(concat(info.output, ": ", short_count(static_cast<double>(info.parameters)), " parameters, ",
              ondol::dtype_name(info.dtype), " on ", info.device));
  for (size_t begin = 0; begin < info.data.size();) {
    const size_t end = std::min(info.data.find('\n', begin), info.data.size());
    line("  " + info.data.substr(begin, end - begin));
    begin = end + 1;
  }
  if (!info.resumed_from.empty()) line(concat("resumed from ", info.resumed_from));
}

std::string TrainProgress::numbers(const ondol::StepMetrics& metrics) const {
  std::string text = formatted("loss %.4f  grad norm %.3f  lr %.2e  %s tok/s", metrics.loss, metrics.grad_norm,
                               metrics.learning_rate, short_count(metrics.tokens_per_second).c_str());
  if (!metrics.ranks.empty()) text += formatted("  waits %.1f%%", 100.0 * exposed_share(metrics.ranks));
  if (const std::optional<size_t> late = ondol::straggler(metrics.ranks)) text += concat("  rank ", *late, " is late");
  if (metrics.mfu) text += formatted("  mfu %.1f%%", 100.0 * *metrics.mfu);
  if (metrics.skipped) text += metrics.no_targets ? "  no targets: skipped" : "  not finite: skipped";
  return text;
}

std::string TrainProgress::time_left(const ondol::StepMetrics& metrics) const {
  const double elapsed = std::chrono::duration<double>(Clock::now() - started_).count();
  const auto steps = static_cast<double>(metrics.step - first_step_ + 1);
  return duration(elapsed / steps * static_cast<double>(total_steps_ - metrics.step)) + " left";
}

void TrainProgress::show_bar(const ondol::StepMetrics& metrics) {
  constexpr int kWidth = 20;
  const int filled = static_cast<int>(kWidth * metrics.step / std::max<int64_t>(total_steps_, 1));
  std::string text(static_cast<size_t>(filled), '#');
  text.resize(kWidth, '.');
  text = concat("[", text, "] ", metrics.step, "/", total_steps_, "  ", numbers(metrics), "  ", time_left(metrics));
  text.resize(std::min(text.size(), static_cast<size_t>(terminal_columns() - 1)));
  const bool last = metrics.step == total_steps_;
  std::fprintf(stderr, "\r%s\x1b[K%s", text.c_str(), last ? "\n" : "");
  bar_shown_ = !last;
}

void TrainProgress::add_ranks(const std::vector<ondol::RankMetrics>& ranks) {
  if (ranks_.size() < ranks.size()) ranks_.resize(ranks.size());
  for (size_t i = 0; i < ranks.size(); ++i) {
    ranks_[i].seconds += ranks[i].seconds;
    ranks_[i].communication_seconds += ranks[i].communication_seconds;
    ranks_[i].exposed_seconds += ranks[i].exposed_seconds;
    ranks_[i].hidden_seconds += ranks[i].hidden_seconds;
    ranks_[i].late_seconds += ranks[i].late_seconds;
  }
}

/// What several processes cost, over all steps.
std::string TrainProgress::communication() const {
  double seconds = 0.0, in_collectives = 0.0, hidden = 0.0;
  for (const ondol::RankMetrics& rank : ranks_) {
    seconds += rank.seconds;
    in_collectives += rank.communication_seconds;
    hidden += rank.hidden_seconds;
  }
  std::string text = formatted("%zu ranks: collectives took %.1f %% of the steps, %.1f %% beside other work, ",
                               ranks_.size(), 100.0 * in_collectives / seconds, 100.0 * hidden / seconds);
  text += formatted("and ranks waited for them %.1f %%", 100.0 * exposed_share(ranks_));
  if (const std::optional<size_t> late = ondol::straggler(ranks_)) {
    const double share = ranks_[*late].late_seconds / ondol::longest_seconds(ranks_);
    text += formatted("; rank %zu was late for %.1f %%", *late, 100.0 * share);
  }
  return text;
}

void TrainProgress::on_step(const ondol::StepMetrics& metrics) {
  step_seconds_ += metrics.seconds;
  data_seconds_ += metrics.data_seconds;
  add_ranks(metrics.ranks);
  if (quiet_ || log_level() < LogLevel::info) return;
  const bool ends = metrics.step == first_step_ || metrics.step == total_steps_;
  const double since = std::chrono::duration<double>(Clock::now() - shown_).count();
  if (!ends && !metrics.skipped && since < (terminal_ ? 0.1 : 2.0)) return;
  shown_ = Clock::now();
  if (terminal_) {
    show_bar(metrics);
  } else {
    line(concat("step ", metrics.step, "/", total_steps_, "  ", numbers(metrics), "  ", time_left(metrics)));
  }
  if (metrics.step == total_steps_) {
    line(formatted("reading and preparing samples took %.2f %% of the steps", 100.0 * data_seconds_ / step_seconds_));
    if (!ranks_.empty()) line(communication());
  }
}

void TrainProgress::on_evaluation(const ondol::EvaluationMetrics& metrics) {
  std::string measured;
  for (const ondol::Metric& metric : metrics.metrics) {
    measured += concat(metric.name, formatted(" %.4f  ", metric.value));
  }
  line(concat("step ", metrics.step, formatted("  eval loss %.4f  ", metrics.loss), measured, "(",
              short_count(static_cast<double>(metrics.targets)), " targets, ", duration(metrics.seconds), ")"));
}

void TrainProgress::on_checkpoint(const std::string& directory) { line("saved " + directory); }

void TrainProgress::on_warning(const std::string& text) {
  clear_bar();
  log(LogLevel::warning, "warning: " + text);
}
