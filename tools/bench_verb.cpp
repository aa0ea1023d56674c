// ondol bench train | generate: speed on random weights and tokens.
#include <algorithm>
#include <chrono>

#include <sys/resource.h>

#include <ondol/base/parallel.h>
#include <ondol/base/philox.h>
#include <ondol/ops/reduce.h>
#include <ondol/tensor/allocator.h>
#include <ondol/train/objective.h>
#include <ondol/train/optimizer.h>

#include "generate/decode_step.h"
#include "json_output.h"
#include "model_files.h"
#include "train/training_step.h"
#include "verbs.h"

namespace {

using ondol::concat;
using ondol::Tensor;
using ondol::UsageError;
using Clock = std::chrono::steady_clock;

struct TrainOptions {
  std::string config, task = "clm";
  int64_t batch = 0, length = 0, target_length = 64;
  int steps = 10, warmup = 3;
};

struct GenerateOptions {
  std::string config, model;
  int64_t batch = 1, prompt = 0, new_tokens = 0;
  int repeats = 5, warmup = 1;
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double smallest(const std::vector<double>& values) { return *std::min_element(values.begin(), values.end()); }

int64_t peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

std::vector<int32_t> random_ids(int64_t count, int64_t vocab_size, uint32_t stream) {
  const int64_t low = std::min<int64_t>(5, vocab_size / 2);  // clear of padding and begin tokens
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (size_t i = 0; i < ids.size(); ++i) {
    const uint64_t word = ondol::philox_word({.seed = 0, .stream = stream}, i);
    ids[i] = static_cast<int32_t>(low + static_cast<int64_t>(word % static_cast<uint64_t>(vocab_size - low)));
  }
  return ids;
}

bool is_encoder_decoder(const ondol::Model& model) { return model.info().head == ondol::Head::sequence_to_sequence; }

/// What the model of a configuration can be trained for; "" when it is none of the tasks.
std::string task_of(const ondol::Model& model) {
  switch (model.info().head) {
    case ondol::Head::causal_language_model:
      return "clm";
    case ondol::Head::masked_language_model:
      return "mlm";
    case ondol::Head::sequence_to_sequence:
      return "seq2seq";
    default:
      return "";
  }
}

/// Labels for 15 % of the positions.
std::vector<int32_t> masked_labels(const std::vector<int32_t>& ids, uint32_t stream) {
  std::vector<int32_t> labels = ids;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (ondol::philox_word({.seed = 1, .stream = stream}, i) % 100 >= 15) labels[i] = ondol::kIgnoreIndex;
  }
  return labels;
}

void check_positions(int64_t length, const ondol::Model& model, const std::string& path) {
  if (length > model.info().max_positions) {
    throw UsageError(concat("a sequence of ", length, " tokens is longer than the model allows (",
                            model.info().max_positions, " positions) (", path, ")"));
  }
}

/// The fields that both benches end with.
void add_machine(OrderedJson& result, const ondol::Model& model) {
  result["peak_memory_bytes"] = ondol::memory_statistics(model.device()).peak;
  result["peak_rss_bytes"] = peak_resident_bytes();
  result["dtype"] = ondol::dtype_name(model.dtype());
  result["device"] = ondol::to_string(model.device());
  result["threads"] = ondol::num_threads();
  result["parameters"] = model.parameters().count();
}

void report(const OrderedJson& result, bool json) {
  if (json) return write_json(result);
  for (const auto& [key, value] : result.items()) write_output(concat(key, " ", value.dump(), "\n"));
}

/// Forward without dropout, loss, backward, clipping, AdamW.
class TrainingBench {
 public:
  TrainingBench(ondol::Model& model, const TrainOptions& options)
      : objective_(ondol::make_objective(options.task == "clm" ? R"({"type": "clm"})" : R"({"type": "tensors"})")) {
    ondol::OptimizerConfig config;
    config.weight_decay = 0.1;
    config.decay = "all";
    config.beta2 = 0.95;
    optimizer_ = ondol::make_optimizer(config, model.parameters());
    step_ = std::make_unique<ondol::TrainingStep>(model, *optimizer_,
                                                  ondol::TrainingStepSettings{.max_grad_norm = 1.0, .dropout = false});
    for (uint32_t i = 0; i < 4; ++i) {
      ondol::Batch batch;
      const std::vector<int32_t> ids = random_ids(options.batch * options.length, model.info().vocab_size, i);
      batch.input_ids = Tensor::from_vector(ids, {options.batch, options.length});
      if (options.task == "mlm") batch.labels = Tensor::from_vector(masked_labels(ids, i), batch.input_ids.shape());
      if (options.task == "seq2seq") {
        batch.labels =
            Tensor::from_vector(random_ids(options.batch * options.target_length, model.info().vocab_size, 100 + i),
                                {options.batch, options.target_length});
      }
      batch.labels_shifted = false;
      batches_.push_back(objective_->prepare(std::move(batch), {.model = model}));
    }
  }

  double step() {
    const auto start = Clock::now();
    const ondol::Batch& batch = batches_[static_cast<size_t>(steps_) % batches_.size()];
    step_->start(*objective_, batch, {.micro_batch_size = batch.size(), .step = ++steps_, .learning_rate = 3e-4});
    last_loss_ = step_->wait().loss;
    return seconds_since(start);
  }
  double last_loss() const { return last_loss_; }

 private:
  std::unique_ptr<ondol::Objective> objective_;
  std::unique_ptr<ondol::Optimizer> optimizer_;
  std::unique_ptr<ondol::TrainingStep> step_;
  std::vector<ondol::Batch> batches_;
  int64_t steps_ = 0;
  double last_loss_ = 0.0;
};

void run_train(const TrainOptions& options, const GlobalOptions& global) {
  if (options.task != "clm" && options.task != "mlm" && options.task != "seq2seq") {
    throw UsageError(concat("unknown task \"", options.task, "\" (--task)"), "tasks: clm, mlm, seq2seq");
  }
  const auto model = ondol::create_model(options.config, global.dtype().value_or(ondol::DType::f32),
                                         ondol::resolve_device(global.device), 0);
  const bool with_targets = is_encoder_decoder(*model);
  if (task_of(*model) != options.task) {
    throw UsageError(concat("task \"", options.task, "\" is not for a ", model->info().model_type, " model (",
                            model->info().architecture, ") (", options.config, ")"));
  }
  check_positions(with_targets ? std::max(options.length, options.target_length) : options.length, *model,
                  options.config);
  TrainingBench bench(*model, options);
  for (int i = 0; i < options.warmup; ++i) bench.step();
  std::vector<double> seconds;
  for (int i = 0; i < options.steps; ++i) {
    seconds.push_back(bench.step());
    log(LogLevel::debug, concat("step ", i, ": ", seconds.back(), " s, loss ", bench.last_loss()));
  }
  const int64_t positions = options.length + (with_targets ? options.target_length : 0);
  const double tokens = static_cast<double>(options.batch * positions);
  OrderedJson result = {{"tokens_per_second_median", tokens / median(seconds)},
                        {"tokens_per_second_best", tokens / smallest(seconds)},
                        {"step_seconds_median", median(seconds)}};
  add_machine(result, *model);
  result["steps"] = options.steps;
  result["last_loss"] = bench.last_loss();
  report(result, global.json);
}

void run_generate(const GenerateOptions& options, const GlobalOptions& global) {
  if (options.config.empty() == options.model.empty()) throw UsageError("give one of --config and --model");
  std::unique_ptr<ondol::Model> model;
  if (options.model.empty()) {
    model = ondol::create_model(options.config, global.dtype().value_or(ondol::DType::f32),
                                ondol::resolve_device(global.device), 0);
  } else {
    model = load_model_directory(options.model, global);
  }
  const bool encoded = is_encoder_decoder(*model);
  const int64_t capacity = (encoded ? 1 : options.prompt) + options.new_tokens;
  check_positions(capacity, *model, options.model.empty() ? options.config : options.model);
  const std::vector<int32_t> ids = random_ids(options.batch * options.prompt, model->info().vocab_size, 0);
  std::vector<double> prefill, decode;
  for (int repeat = 0; repeat < options.warmup + options.repeats; ++repeat) {
    ondol::KvCache cache = model->make_cache(options.batch, capacity);
    ondol::Decoder decoder(*model, cache);
    std::vector<std::span<const int32_t>> tokens;
    for (int64_t b = 0; b < options.batch; ++b) {
      tokens.push_back(
          std::span(ids).subspan(static_cast<size_t>(b * options.prompt), static_cast<size_t>(options.prompt)));
    }
    const std::vector<std::span<const int32_t>> prompts = tokens;
    const std::vector<int32_t> first = ondol::decoder_prompt(*model, prompts[0]);
    if (encoded) tokens.assign(tokens.size(), first);
    auto start = Clock::now();
    ondol::encode_sources(*model, prompts, cache);
    std::vector<int32_t> next;
    const auto step = [&] {
      next = ondol::ops::argmax(decoder.step(tokens)).to_vector<int32_t>();
      for (size_t b = 0; b < next.size(); ++b) tokens[b] = {&next[b], 1};
    };
    step();
    const double prefill_seconds = seconds_since(start);
    start = Clock::now();
    for (int64_t i = 0; i < options.new_tokens; ++i) step();
    if (repeat < options.warmup) continue;
    prefill.push_back(prefill_seconds);
    decode.push_back(seconds_since(start));
  }
  const double prompt_tokens = static_cast<double>(options.batch * options.prompt);
  const double new_tokens = static_cast<double>(options.batch * options.new_tokens);
  OrderedJson result = {{"prefill_tokens_per_second", prompt_tokens / median(prefill)},
                        {"decode_tokens_per_second", new_tokens / median(decode)},
                        {"prefill_tokens_per_second_best", prompt_tokens / smallest(prefill)},
                        {"decode_tokens_per_second_best", new_tokens / smallest(decode)}};
  add_machine(result, *model);
  report(result, global.json);
}

}  // namespace

void add_bench_verb(Program& program) {
  CLI::App* verb = program.app.add_subcommand("bench", "Measure speed on random weights and tokens");
  verb->require_subcommand(1);
  const auto count = [](const char* name) { return CLI::Range(int64_t{1}, int64_t{1} << 30, name); };

  auto train = std::make_shared<TrainOptions>();
  CLI::App* train_verb = verb->add_subcommand("train", "Training steps: AdamW, clipping at 1, no dropout");
  train_verb->add_option("--config", train->config, "Hugging Face config.json")->required();
  train_verb->add_option("--task", train->task, "clm, mlm (masked language models) or seq2seq (encoder-decoders)")
      ->capture_default_str();
  train_verb->add_option("--batch", train->batch, "Sequences a step")->required()->check(count("COUNT"));
  train_verb->add_option("--seq", train->length, "Tokens a sequence")->required()->check(count("COUNT"));
  train_verb->add_option("--target-seq", train->target_length, "seq2seq: tokens of a target")
      ->check(count("COUNT"))
      ->capture_default_str();
  train_verb->add_option("--steps", train->steps, "Timed steps")->check(CLI::Range(1, 1000000))->capture_default_str();
  train_verb->add_option("--warmup", train->warmup, "Steps before")
      ->check(CLI::Range(0, 1000000))
      ->capture_default_str();
  program.run_on(train_verb, [train, &program] { run_train(*train, program.global); });

  auto generate = std::make_shared<GenerateOptions>();
  CLI::App* generate_verb = verb->add_subcommand("generate", "Reading a prompt and decoding");
  generate_verb->add_option("--config", generate->config, "Hugging Face config.json: random weights");
  generate_verb->add_option("--model", generate->model, "Model directory");
  generate_verb->add_option("--batch", generate->batch, "Sequences")->check(count("COUNT"))->capture_default_str();
  generate_verb->add_option("--prompt", generate->prompt, "Tokens of the prompt")->required()->check(count("COUNT"));
  generate_verb->add_option("--new", generate->new_tokens, "Tokens to decode")->required()->check(count("COUNT"));
  generate_verb->add_option("--repeats", generate->repeats, "Timed repeats")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  program.run_on(generate_verb, [generate, &program] { run_generate(*generate, program.global); });
}
