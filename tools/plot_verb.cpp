// ondol plot RUN_DIR… --output report.html: the course of training runs as one page.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>
#include <ondol/base/file.h>
#include <ondol/base/text_reader.h>

#include "json_output.h"
#include "option_checks.h"
#include "plot_report.h"
#include "verbs.h"

namespace {

using ondol::concat;

struct Options {
  std::vector<std::string> runs;
  std::string output = "report.html";
};

struct Metric {
  const char* key;
  const char* title;
  const char* unit;
};
constexpr Metric kMetrics[] = {{"loss", "Loss", "by step"},
                               {"eval_loss", "Evaluation loss", "by step"},
                               {"learning_rate", "Learning rate", "by step"},
                               {"grad_norm", "Gradient norm", "by step, before clipping"},
                               {"tokens_per_second", "Tokens per second", "by step"}};
constexpr size_t kLoss = 0, kEvalLoss = 1, kSpeed = 4;

struct RunMetrics {
  std::vector<PlotPoint> series[std::size(kMetrics)];
  double tokens = 0.0;
};

RunMetrics read_metrics(const std::string& path) {
  if (!std::filesystem::exists(path)) {
    throw ondol::UsageError(concat("cannot plot: no metrics.jsonl (", path, ")"), "name the run directories");
  }
  RunMetrics metrics;
  ondol::TextReader reader(path);
  for (std::string line; reader.read_line(line);) {
    const nlohmann::json entry = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (entry.is_discarded()) continue;  // a line that a running or killed run has not finished
    ONDOL_CHECK(entry.is_object() && entry.contains("step") && entry["step"].is_number(),
                "cannot read metrics: no step in line ", reader.line_number(), " (", path, ")");
    const double step = entry["step"].get<double>();
    for (size_t m = 0; m < std::size(kMetrics); ++m) {
      const auto value = entry.find(kMetrics[m].key);
      if (value == entry.end() || !value->is_number()) continue;
      metrics.series[m].push_back({step, value->get<double>()});
    }
    const auto tokens = entry.find("tokens");
    if (tokens != entry.end() && tokens->is_number()) metrics.tokens = tokens->get<double>();
  }
  return metrics;
}

std::string number(double value, const char* format) {
  char text[48];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::vector<std::string> summarize(const RunMetrics& metrics) {
  const auto& loss = metrics.series[kLoss];
  const auto& evaluation = metrics.series[kEvalLoss];
  auto speed = metrics.series[kSpeed];
  const auto by_value = [](const PlotPoint& a, const PlotPoint& b) { return a.y < b.y; };
  std::vector<std::string> cells = {loss.empty() ? "-" : number(loss.back().x, "%.0f"),
                                    loss.empty() ? "-" : number(loss.back().y, "%.4f"), "-",
                                    number(metrics.tokens, "%.0f"), "-"};
  if (!evaluation.empty()) {
    cells[2] = number(std::min_element(evaluation.begin(), evaluation.end(), by_value)->y, "%.4f");
  }
  if (!speed.empty()) {
    const auto middle = speed.begin() + static_cast<std::ptrdiff_t>(speed.size() / 2);
    std::nth_element(speed.begin(), middle, speed.end(), by_value);
    cells[4] = number(middle->y, "%.0f");
  }
  return cells;
}

void run_plot(const Options& options, const GlobalOptions& global) {
  PlotReport report;
  report.columns = {"steps", "last loss", "best eval loss", "tokens", "tokens/s (median)"};
  for (const Metric& metric : kMetrics) report.charts.push_back({metric.title, metric.unit, {}});
  for (const std::string& directory : options.runs) {
    RunMetrics metrics = read_metrics((std::filesystem::path(directory) / "metrics.jsonl").string());
    report.summary.push_back(summarize(metrics));
    for (size_t m = 0; m < std::size(kMetrics); ++m) {
      report.charts[m].series.push_back({report.runs.size(), std::move(metrics.series[m])});
    }
    report.runs.push_back(directory);
  }
  ondol::write_file_atomic(options.output, render_report(report));
  log(LogLevel::info, concat("wrote ", options.output));
  if (global.json) write_json({{"output", options.output}, {"runs", options.runs}});
}

}  // namespace

void add_plot_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = program.app.add_subcommand("plot", "Draw training runs: loss, learning rate, gradient norm, speed");
  verb->add_option("RUN_DIR", options->runs, "Run directories, drawn over each other")->required();
  verb->add_option("--output", options->output, "The page to write (default: report.html)")->check(not_empty());
  program.run_on(verb, [options, &program] { run_plot(*options, program.global); });
}
