// ondol data prepare | inspect; the verbs that clean are in data_clean_verbs.cpp.
#include <ondol/data/data_loader.h>
#include <ondol/data/token_file.h>
#include <ondol/tokenizer/tokenizer.h>
#include <ondol/train/config.h>
#include <ondol/train/text_encoder.h>

#include "data_clean_verbs.h"
#include "json_output.h"
#include "option_checks.h"
#include "train/batch_text.h"
#include "train/model_setup.h"
#include "train/run_data.h"
#include "verbs.h"

namespace {

using ondol::concat;
using ondol::UsageError;

struct PrepareOptions {
  std::string tokenizer, output, separator = "file", text_field = "text", sentences = "none";
  std::vector<std::string> inputs;
};

struct InspectOptions {
  std::string config;
  std::vector<std::string> overrides;
  int64_t batches = 1;
  int64_t rows = 2;
};

void run_prepare(const PrepareOptions& options, const GlobalOptions& global) {
  const ondol::Tokenizer tokenizer = ondol::load_tokenizer(options.tokenizer);
  const ondol::TextEncoder encoder = ondol::make_text_encoder(tokenizer);
  int64_t reported = 0;
  const auto progress = [&reported](const ondol::PrepareStatistics& so_far) {
    if (so_far.text_bytes - reported < (int64_t{64} << 20)) return;
    reported = so_far.text_bytes;
    log(LogLevel::info, concat(so_far.text_bytes >> 20, " MiB of text, ", so_far.tokens, " tokens"));
  };
  const ondol::PrepareStatistics done =
      ondol::prepare_tokens(encoder, options.inputs, options.output,
                            {.separator = options.separator,
                             .text_field = options.text_field,
                             .sentences = ondol::parse_sentence_split(options.sentences)},
                            progress);
  if (global.json) {
    return write_json({{"output", options.output},
                       {"documents", done.documents},
                       {"tokens", done.tokens},
                       {"text_bytes", done.text_bytes}});
  }
  write_output(concat(options.output, ".bin, .idx: ", done.documents, " documents, ", done.tokens, " tokens from ",
                      done.text_bytes, " bytes\n"));
}

OrderedJson tensor_json(const ondol::Tensor& tensor) {
  if (!tensor.defined()) return nullptr;
  const auto values = [](const ondol::Tensor& part) {
    return is_floating(part.dtype()) ? OrderedJson(part.to_vector<float>()) : OrderedJson(part.to_vector<int32_t>());
  };
  if (tensor.ndim() == 1) return values(tensor);
  OrderedJson rows = OrderedJson::array();
  for (int64_t r = 0; r < tensor.size(0); ++r) rows.push_back(values(tensor.select(0, r)));
  return rows;
}

OrderedJson batch_json(int64_t number, const ondol::Batch& batch) {
  OrderedJson out = {{"batch", number},
                     {"input_ids", tensor_json(batch.input_ids)},
                     {"labels", tensor_json(batch.labels)},
                     {"attention_mask", tensor_json(batch.attention_mask)},
                     {"document_ids", tensor_json(batch.document_ids)},
                     {"positions", tensor_json(batch.positions)}};
  for (const auto& [name, tensor] : batch.others) out[name] = tensor_json(tensor);
  return out;
}

/// Batches as the first steps of a run get them: what the objective makes of the samples.
void run_inspect(const InspectOptions& options, const GlobalOptions& global) {
  const ondol::TrainConfig config = ondol::TrainConfig::from_file(options.config, options.overrides);
  const ondol::StageConfig& stage = config.stages.front();
  const std::unique_ptr<ondol::Model> model = ondol::outline_training_model(config);
  ondol::RunData data(config, *model, config.output + "/data");
  data.open_stage(0, "");
  const ondol::Tokenizer* tokenizer = data.tokenizer();
  const int64_t rows = std::min(options.rows, stage.batch_size);
  if (!global.json) {
    write_output(concat(data.train().describe(), "\n", data.train().samples_per_epoch(), " samples an epoch, ",
                        stage.batch_size, " a batch; the first ", rows, " of each:\n"));
  }
  const auto spell = [&](int32_t id) {  // quoted and escaped: tokens hold line breaks and halves of characters
    return json_text(tokenizer->decode(std::vector<int32_t>{id}));
  };
  for (int64_t i = 0; i < options.batches; ++i) {
    const ondol::Batch batch = data.objective().prepare(data.train().next(stage.batch_size, 0, rows),
                                                        data.objective_context(i + 1, /*training=*/true));
    if (global.json) {
      write_json(batch_json(i, batch));
      continue;
    }
    write_output(
        concat("\nbatch ", i, "\n", ondol::batch_text(batch, *model, tokenizer), "\n",
               ondol::describe_batch(batch, tokenizer != nullptr ? spell : std::function<std::string(int32_t)>())));
  }
}

}  // namespace

void add_data_verb(Program& program) {
  CLI::App* verb = program.app.add_subcommand("data", "Prepare and look at training data");
  verb->require_subcommand(1);
  add_data_clean_verbs(*verb, program);

  auto prepare = std::make_shared<PrepareOptions>();
  CLI::App* prepare_verb = verb->add_subcommand("prepare", "Tokenize text once: writes PREFIX.bin and PREFIX.idx");
  prepare_verb->add_option("--tokenizer", prepare->tokenizer, "Tokenizer directory or file")->required();
  prepare_verb->add_option("--input", prepare->inputs, ".txt or .jsonl files, also .gz, * ? […] allowed")->required();
  prepare_verb->add_option("--output", prepare->output, "PREFIX of the two files")->required()->check(not_empty());
  prepare_verb->add_option("--separator", prepare->separator, "Documents of .txt: file, line, blank_line or a text")
      ->capture_default_str();
  prepare_verb->add_option("--text-field", prepare->text_field, "Field of .jsonl")->capture_default_str();
  prepare_verb->add_option("--sentences", prepare->sentences, "Keep where sentences begin: none, lines, punctuation")
      ->capture_default_str();
  program.run_on(prepare_verb, [prepare, &program] { run_prepare(*prepare, program.global); });

  auto inspect = std::make_shared<InspectOptions>();
  CLI::App* inspect_verb = verb->add_subcommand("inspect", "Show batches as the model gets them");
  inspect_verb->add_option("CONFIG", inspect->config, "Training configuration")->required();
  inspect_verb->add_option("--set", inspect->overrides, "KEY=VALUE of the configuration")->allow_extra_args(false);
  inspect_verb->add_option("--batches", inspect->batches, "How many")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  inspect_verb->add_option("--rows", inspect->rows, "Samples of each batch")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  program.run_on(inspect_verb, [inspect, &program] { run_inspect(*inspect, program.global); });
}
