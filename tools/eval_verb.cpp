// ondol eval MODEL_DIR --task …: how well a model predicts a text, or does what it was fine-tuned for.
#include <chrono>
#include <cmath>

#include <ondol/base/file.h>
#include <ondol/data/documents.h>
#include <ondol/generate/perplexity.h>
#include <ondol/metrics/classification.h>
#include <ondol/train/objective.h>
#include <ondol/train/task_evaluation.h>

#include "base/json_reader.h"
#include "json_output.h"
#include "model_files.h"
#include "option_checks.h"
#include "own_rank.h"
#include "verbs.h"

namespace {

using ondol::concat;
using ondol::UsageError;

struct Options {
  std::string model, task, data, separator = "file";
  ondol::PerplexityOptions perplexity;
  std::string target_data, format, settings = "{}", predictions;
  std::vector<std::string> fields, columns;
  int64_t sequence_length = 0, batch = 8;
};

void run_perplexity(const Options& options, const GlobalOptions& global) {
  const auto model = load_model_directory(options.model, global);
  const ondol::Tokenizer tokenizer = load_model_tokenizer(options.model, *model);
  const auto start = std::chrono::steady_clock::now();
  double loss = 0.0;
  int64_t tokens = 0, samples = 0, bytes = 0;
  ondol::PerplexityOptions how = options.perplexity;
  how.batch = options.batch;
  for (const std::string& path : ondol::expand_path(options.data)) {
    ondol::DocumentReader reader(path, {.separator = options.separator});
    for (ondol::DocumentPiece piece; reader.next(piece);) {
      const std::vector<int32_t> ids = tokenizer.encode(piece.text, {.parse_special = false});
      if (ids.size() < 2) continue;
      const ondol::PerplexityResult result = ondol::perplexity(*model, ids, how);
      loss += result.log_likelihood_loss;
      tokens += result.tokens;
      bytes += static_cast<int64_t>(piece.text.size());
      ++samples;
      log(LogLevel::debug, concat("sample ", samples, ": loss ", result.loss()));
    }
  }
  if (tokens == 0) throw UsageError(concat("no text of two tokens or more (", options.data, ")"));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double mean = loss / static_cast<double>(tokens);
  const double perplexity = ondol::metrics::perplexity(loss, tokens);
  const double bits_per_byte = loss / std::log(2.0) / static_cast<double>(bytes);
  if (global.json) {
    return write_json({{"task", options.task},
                       {"metric", {{"perplexity", perplexity}, {"loss", mean}, {"bits_per_byte", bits_per_byte}}},
                       {"samples", samples},
                       {"tokens", tokens},
                       {"seconds", seconds}});
  }
  write_output(concat("perplexity ", perplexity, ", loss ", mean, ", bits per byte ", bits_per_byte, " (", tokens,
                      " tokens, ", samples, " samples, ", seconds, " s)\n"));
}

struct Task {
  const char* name;
  const char* objective;
};
constexpr Task kTasks[] = {{"classify", "classification"},
                           {"regression", "regression"},
                           {"token-classify", "token_classification"},
                           {"qa", "question_answering"},
                           {"seq2seq", "seq2seq"}};

/// The section "objective" that a run for this task would have.
std::string objective_of(const Options& options, const char* type, const ondol::Model& model) {
  ondol::Json settings = ondol::parse_json(options.settings, "--settings");
  if (!settings.is_object()) throw UsageError("--settings must be a JSON object", R"(as {"source_prefix": "…"})");
  settings["type"] = type;
  if (std::string(type) == "classification" && model.info().multi_label) settings["multi_label"] = true;
  const ondol::JsonReader reader(settings, "--settings");
  const std::string resolved = ondol::make_objective(reader)->settings();
  reader.finish();
  return resolved;
}

ondol::DataConfig data_of(const Options& options) {
  ondol::DataConfig data;
  data.validation = {{.path = options.data, .target_path = options.target_data, .format = options.format}};
  data.columns = options.columns;
  data.sequence_length = options.sequence_length;
  for (const std::string& pair : options.fields) {
    const size_t equals = pair.find('=');
    if (equals == std::string::npos) throw UsageError(concat("--fields takes NAME=FIELD, not \"", pair, "\""));
    data.fields[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  return data;
}

void run_task(const Options& options, const char* objective, const GlobalOptions& global) {
  OwnRank rank(global, /*deterministic=*/true);
  GlobalOptions of_rank = global;
  of_rank.device = rank.device();
  const ondol::TaskEvaluation result = rank.run([&] {
    const auto work = rank.long_work("evaluating");
    const auto model = load_model_directory(options.model, of_rank);
    const ondol::Tokenizer tokenizer = load_model_tokenizer(options.model, *model);
    return ondol::evaluate_task(*model, tokenizer,
                                {.objective = objective_of(options, objective, *model),
                                 .data = data_of(options),
                                 .batch_size = options.batch,
                                 .communicator = rank.communicator()});
  });
  if (!rank.first()) return;
  if (!options.predictions.empty()) {
    std::string lines;
    for (const std::string& line : result.predictions) lines += line + "\n";
    ondol::write_file_atomic(options.predictions, lines);
  }
  OrderedJson metrics;
  std::string text;
  for (const ondol::Metric& metric : result.metrics) {
    metrics[metric.name] = metric.value;
    text += concat(metric.name, " ", metric.value, "\n");
  }
  if (!global.json) return write_output(concat(text, result.examples, " examples, ", result.seconds, " s\n"));
  write_json({{"task", options.task},
              {"metric", metrics},
              {"samples", result.examples},
              {"seconds", result.seconds},
              {"report", OrderedJson::parse(result.report)}});
}

void run_eval(const Options& options, const GlobalOptions& global) {
  if (options.task == "perplexity") return run_perplexity(options, global);
  std::string names = "perplexity";
  for (const Task& task : kTasks) {
    if (options.task == task.name) return run_task(options, task.objective, global);
    names += concat(", ", task.name);
  }
  throw UsageError(concat("unknown task \"", options.task, "\" (--task)"), concat("tasks: ", names));
}

}  // namespace

void add_eval_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = program.app.add_subcommand("eval", "Measure a model on texts or examples");
  verb->add_option("MODEL_DIR", options->model, "Model directory")->required();
  verb->add_option("--task", options->task, "perplexity, classify, regression, token-classify, qa or seq2seq")
      ->required();
  verb->add_option("--data", options->data,
                   "perplexity: .txt or .jsonl file; else examples as training runs read them; also .gz, * ? […]")
      ->required();
  verb->add_option("--format", options->format,
                   "Examples: jsonl, json, csv, tsv or conll (default: by the file's name)");
  verb->add_option("--separator", options->separator, "perplexity: documents of .txt: file, line, blank_line or a text")
      ->capture_default_str();
  verb->add_option("--window", options->perplexity.window,
                   "perplexity: tokens of a window (default: the model's positions)")
      ->check(whole_number<int64_t>());
  verb->add_option("--stride", options->perplexity.stride, "perplexity: from window to window (default: the window)")
      ->check(whole_number<int64_t>());
  verb->add_option("--batch", options->batch, "Windows or examples that run together")
      ->check(whole_number<int64_t>(1))
      ->capture_default_str();
  verb->add_option("--target-data", options->target_data, "seq2seq: a file with a target for each line of --data");
  verb->add_option("--fields", options->fields, "What fields are called in the data, as text=sentence label=gold");
  verb->add_option("--columns", options->columns, "Columns of a table without a header")->delimiter(',');
  verb->add_option("--sequence-length", options->sequence_length,
                   "Longer examples are cut, contexts of qa read in windows (default: the model's positions)")
      ->check(whole_number<int64_t>());
  verb->add_option("--settings", options->settings,
                   "Settings as in a run's \"objective\", JSON: {\"source_prefix\": …, \"beams\": 4}");
  verb->add_option("--predictions", options->predictions, "Write a prediction a line to this .jsonl file");
  program.run_on(verb, [options, &program] { run_eval(*options, program.global); });
}
