// ondol inspect PATH: what a model, checkpoint, run directory, safetensors or GGUF file or prepared corpus holds.
#include <filesystem>
#include <fstream>

#include <ondol/base/text_reader.h>
#include <ondol/data/token_file.h>
#include <ondol/io/gguf.h>
#include <ondol/io/model_weights.h>
#include <ondol/models/model.h>
#include <ondol/tokenizer/tokenizer.h>
#include <ondol/train/checkpoint.h>

#include "base/json_reader.h"
#include "json_output.h"
#include "verbs.h"

namespace {

namespace fs = std::filesystem;
using ondol::concat;
using ondol::UsageError;

void add_tensors(OrderedJson& report, const std::vector<ondol::SafetensorsFile>& files) {
  int64_t elements = 0;
  uint64_t bytes = 0;
  OrderedJson tensors = OrderedJson::array();
  for (const ondol::SafetensorsFile& file : files) {
    for (const ondol::SafetensorsEntry& entry : file.entries()) {
      elements += entry.shape.numel();
      bytes += entry.bytes;
      tensors.push_back({{"name", entry.name},
                         {"dtype", ondol::dtype_name(entry.dtype)},
                         {"shape", std::vector<int64_t>(entry.shape.begin(), entry.shape.end())}});
    }
  }
  report["elements"] = elements;
  report["bytes"] = bytes;
  report["tensors"] = std::move(tensors);
}

OrderedJson inspect_safetensors(const std::string& path) {
  const ondol::SafetensorsFile file(path);
  OrderedJson report = {{"kind", "safetensors"}};
  for (const auto& [key, value] : file.metadata()) report["metadata"][key] = value;
  add_tensors(report, {file});
  return report;
}

/// A value of the metadata; of arrays, which may hold a whole vocabulary, their length and first elements.
OrderedJson gguf_value(const ondol::GgufFile& file, const ondol::GgufValue& value) {
  constexpr size_t kShown = 8;
  if (!value.is_array) {
    if (value.type == ondol::GgufValueType::text) return *file.text(value.key);
    if (value.type == ondol::GgufValueType::boolean) return *file.flag(value.key);
    if (value.type == ondol::GgufValueType::f32 || value.type == ondol::GgufValueType::f64) {
      return *file.number(value.key);
    }
    return *file.integer(value.key);
  }
  OrderedJson shown = {{"array", ondol::gguf_value_type_name(value.type)}, {"length", value.count}};
  if (value.type == ondol::GgufValueType::text) {
    std::vector<std::string> texts = *file.texts(value.key);
    texts.resize(std::min(texts.size(), kShown));
    shown["first"] = std::move(texts);
  } else if (value.type != ondol::GgufValueType::boolean) {
    std::vector<double> numbers = *file.numbers(value.key);
    numbers.resize(std::min(numbers.size(), kShown));
    shown["first"] = std::move(numbers);
  }
  return shown;
}

OrderedJson inspect_gguf(const std::string& path) {
  const ondol::GgufFile file(path);
  OrderedJson report = {{"kind", "gguf"}, {"version", file.version()}};
  for (const ondol::GgufValue& value : file.values()) report["metadata"][value.key] = gguf_value(file, value);
  int64_t elements = 0;
  uint64_t bytes = 0;
  OrderedJson tensors = OrderedJson::array();
  for (const ondol::GgufTensor& tensor : file.tensors()) {
    elements += tensor.shape.numel();
    bytes += tensor.bytes;
    tensors.push_back({{"name", tensor.name},
                       {"dtype", tensor.type->name},
                       {"shape", std::vector<int64_t>(tensor.shape.begin(), tensor.shape.end())}});
  }
  report["elements"] = elements;
  report["bytes"] = bytes;
  report["tensors"] = std::move(tensors);
  return report;
}

OrderedJson inspect_tokens(const std::string& path) {
  const ondol::TokenFile file(path);
  file.verify();
  return {{"kind", "tokens"},
          {"documents", file.documents()},
          {"tokens", file.tokens()},
          {"vocab_size", file.vocab_size()},
          {"bytes_per_token", file.bytes_per_token()},
          {"eos_token_id", file.eos_id()},
          {"tokenizer_fingerprint", file.tokenizer_fingerprint()}};
}

OrderedJson inspect_model(const std::string& directory) {
  const bool checkpoint = fs::exists(fs::path(directory) / "trainer_state.json");
  OrderedJson report = {{"kind", checkpoint ? "checkpoint" : "model"}};
  if (checkpoint) {
    ondol::verify_checkpoint(directory);
    const ondol::TrainerState state = ondol::read_trainer_state(directory);
    report["step"] = state.step;
    report["trained_tokens"] = state.tokens;
    report["trained_samples"] = state.samples;
  }
  const auto model = ondol::load_model(directory, {.device = "cpu", .dtype = {}});
  const ondol::ModelInfo& info = model->info();
  report["model_type"] = info.model_type;
  report["architecture"] = info.architecture;
  report["parameters"] = model->parameters().count();
  report["vocab_size"] = info.vocab_size;
  report["hidden_size"] = info.hidden_size;
  report["num_layers"] = info.num_layers;
  report["num_kv_heads"] = info.num_kv_heads;
  report["head_dim"] = info.head_dim;
  report["max_positions"] = info.max_positions;
  report["eos_token_ids"] = info.eos_token_ids;
  try {
    report["tokenizer_tokens"] = ondol::load_tokenizer(directory).vocab_size();
  } catch (const ondol::Error&) {
    report["tokenizer_tokens"] = nullptr;
  }
  add_tensors(report, ondol::ModelWeights(directory).files());
  return report;
}

OrderedJson inspect_run(const std::string& directory) {
  OrderedJson report = {{"kind", "run"}};
  int64_t steps = 0;
  OrderedJson last, evaluation;
  ondol::TextReader reader((fs::path(directory) / "metrics.jsonl").string());
  for (std::string line; reader.read_line(line);) {
    OrderedJson value = OrderedJson::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!value.is_object()) continue;  // the last line of a run that was killed may be cut
    if (value.contains("eval_loss")) {
      evaluation = std::move(value);
    } else {
      last = std::move(value);
      ++steps;
    }
  }
  report["steps"] = steps;
  report["last"] = std::move(last);
  report["last_evaluation"] = std::move(evaluation);
  std::vector<std::pair<int64_t, std::string>> checkpoints;
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("checkpoint-")) checkpoints.emplace_back(std::atoll(name.c_str() + 11), name);
  }
  std::sort(checkpoints.begin(), checkpoints.end());
  report["checkpoints"] = OrderedJson::array();
  for (const auto& [step, name] : checkpoints) report["checkpoints"].push_back(name);
  report["final"] = fs::exists(fs::path(directory) / "final");
  return report;
}

OrderedJson inspect(const std::string& path) {
  if (fs::is_directory(path)) {
    if (fs::exists(fs::path(path) / "metrics.jsonl")) return inspect_run(path);
    if (fs::exists(fs::path(path) / "config.json")) return inspect_model(path);
    throw UsageError(concat("neither a model nor a run directory (", path, ")"),
                     "a model has config.json, a run metrics.jsonl");
  }
  if (path.ends_with(".safetensors") && fs::exists(path)) return inspect_safetensors(path);
  if (ondol::is_gguf_file(path)) return inspect_gguf(path);
  if (path.ends_with(".bin") || path.ends_with(".idx") || fs::exists(path + ".idx")) return inspect_tokens(path);
  if (!fs::exists(path)) throw UsageError(concat("no such file or directory (", path, ")"));
  throw UsageError(concat("unknown kind of file (", path, ")"),
                   "known: model, checkpoint and run directories, .safetensors, .gguf, prepared .bin and .idx");
}

std::string readable(const OrderedJson& report) {
  std::string text;
  for (const auto& [key, value] : report.items()) {
    if (key == "tensors") continue;
    if (key == "metadata") {
      for (const auto& [name, entry] : value.items()) text += concat("  ", name, ": ", json_text(entry), "\n");
      continue;
    }
    text += concat(key, ": ", value.is_string() ? value.get<std::string>() : value.dump(), "\n");
  }
  if (!report.contains("tensors")) return text;
  for (const OrderedJson& tensor : report["tensors"]) {
    text += concat("  ", tensor["name"].get<std::string>(), " ", tensor["dtype"].get<std::string>(), " ",
                   tensor["shape"].dump(), "\n");
  }
  return text;
}

}  // namespace

void add_inspect_verb(Program& program) {
  auto path = std::make_shared<std::string>();
  CLI::App* verb = program.app.add_subcommand("inspect", "Show what a file or directory holds");
  verb->add_option("PATH", *path, "Model, checkpoint or run directory, .safetensors or .gguf file, prepared .bin/.idx")
      ->required();
  program.run_on(verb, [path, &program] {
    const OrderedJson report = inspect(*path);
    write_output(program.global.json ? json_text(report) + "\n" : readable(report));
  });
}
