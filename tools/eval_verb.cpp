// ondol eval MODEL_DIR --task perplexity: how well a model predicts a text.
#include <chrono>
#include <cmath>

#include <ondol/data/documents.h>
#include <ondol/generate/perplexity.h>

#include "json_output.h"
#include "model_files.h"
#include "option_checks.h"
#include "verbs.h"

namespace {

using ondol::concat;
using ondol::UsageError;

struct Options {
  std::string model, task, data, separator = "file";
  ondol::PerplexityOptions perplexity;
};

void run_eval(const Options& options, const GlobalOptions& global) {
  if (options.task != "perplexity") {
    throw UsageError(concat("unknown task \"", options.task, "\" (--task)"), "tasks: perplexity");
  }
  const auto model = load_model_directory(options.model, global);
  const ondol::Tokenizer tokenizer = load_model_tokenizer(options.model, *model);
  const auto start = std::chrono::steady_clock::now();
  double loss = 0.0;
  int64_t tokens = 0, samples = 0, bytes = 0;
  for (const std::string& path : ondol::expand_path(options.data)) {
    ondol::DocumentReader reader(path, {.separator = options.separator});
    for (ondol::DocumentPiece piece; reader.next(piece);) {
      const std::vector<int32_t> ids = tokenizer.encode(piece.text, {.parse_special = false});
      if (ids.size() < 2) continue;
      const ondol::PerplexityResult result = ondol::perplexity(*model, ids, options.perplexity);
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
  const double bits_per_byte = loss / std::log(2.0) / static_cast<double>(bytes);
  if (global.json) {
    return write_json({{"task", options.task},
                       {"metric", {{"perplexity", std::exp(mean)}, {"loss", mean}, {"bits_per_byte", bits_per_byte}}},
                       {"samples", samples},
                       {"tokens", tokens},
                       {"seconds", seconds}});
  }
  write_output(concat("perplexity ", std::exp(mean), ", loss ", mean, ", bits per byte ", bits_per_byte, " (", tokens,
                      " tokens, ", samples, " samples, ", seconds, " s)\n"));
}

}  // namespace

void add_eval_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = program.app.add_subcommand("eval", "Measure a model on a text");
  verb->add_option("MODEL_DIR", options->model, "Model directory")->required();
  verb->add_option("--task", options->task, "perplexity")->required();
  verb->add_option("--data", options->data, ".txt or .jsonl file, also .gz, * ? […] allowed")->required();
  verb->add_option("--separator", options->separator, "Documents of .txt: file, line, blank_line or a text")
      ->capture_default_str();
  verb->add_option("--window", options->perplexity.window, "Tokens of a window (default: the model's positions)")
      ->check(whole_number<int64_t>());
  verb->add_option("--stride", options->perplexity.stride, "From window to window (default: the window)")
      ->check(whole_number<int64_t>());
  verb->add_option("--batch", options->perplexity.batch, "Windows that run together")
      ->check(whole_number<int64_t>())
      ->capture_default_str();
  program.run_on(verb, [options, &program] { run_eval(*options, program.global); });
}
