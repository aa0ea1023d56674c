// ondol predict MODEL_DIR --task …: what an encoder says about texts.
#include <algorithm>

#include <ondol/base/text_reader.h>
#include <ondol/predict/predict.h>

#include "base/json_reader.h"
#include "json_output.h"
#include "model_files.h"
#include "option_checks.h"
#include "verbs.h"

namespace {

using ondol::concat;
using ondol::TextInput;
using ondol::UsageError;

/// Lines of a file that are read, run and answered together.
constexpr size_t kLinesAtATime = 4096;

struct Options {
  std::string model, task;
  std::optional<std::string> text, pair, file, pooling;
  std::optional<int64_t> top_k;
  int64_t max_answer_tokens = 15, stride = 128;
  std::optional<double> null_threshold;
  bool normalize = false;
  ondol::PredictOptions texts;
};

/// Characters (code points) before a byte of the text.
int64_t characters_before(const std::string& text, size_t byte) {
  return std::count_if(text.begin(), text.begin() + static_cast<ptrdiff_t>(std::min(byte, text.size())),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

std::optional<std::string> string_of(const ondol::JsonReader& line, const char* key) {
  return line.has(key) ? std::optional(line.require<std::string>(key)) : std::nullopt;
}

/// {"text": …, "text_pair": …} or {"question": …, "context": …}.
TextInput parse_line(const std::string& line, const std::string& place) {
  const ondol::Json document = ondol::parse_json(line, place, ondol::ErrorKind::failure);
  if (!document.is_object()) throw ondol::Error(concat("not a JSON object (", place, ")"));
  const ondol::JsonReader reader(document, place, ondol::ErrorKind::failure);
  const bool question = reader.has("question");
  const auto text = string_of(reader, question ? "question" : "text");
  if (!text) throw ondol::Error(concat("no key \"text\" (", place, ")"), R"(lines are {"text": …} objects)");
  return {*text, string_of(reader, question ? "context" : "text_pair"), place};
}

/// Runs one task on many texts, and says what to answer for each.
class Predictor {
 public:
  Predictor(const Options& options, const GlobalOptions& global) : options_(options) {
    std::string directory = options.model;
    if (options.task == "embed") {
      if (const auto modules = ondol::read_sentence_modules(directory)) {
        directory = modules->model_directory;
        embed_ = modules->options;
      }
      if (options.pooling) embed_.pooling = *options.pooling == "cls" ? ondol::Pooling::cls : ondol::Pooling::mean;
      embed_.normalize = embed_.normalize || options.normalize;
      embed_.texts.truncate = embed_.texts.truncate || options.texts.truncate;
      embed_.texts.batch_tokens = options.texts.batch_tokens;
    }
    model_ = load_model_directory(directory, global);
    tokenizer_.emplace(load_model_tokenizer(directory, *model_));
  }

  std::vector<OrderedJson> run(const std::vector<TextInput>& texts) {
    if (options_.task == "embed") return embed(texts);
    if (options_.task == "classify") return classify(texts);
    if (options_.task == "token-classify") return classify_tokens(texts);
    return options_.task == "fill-mask" ? fill_masks(texts) : answer(texts);
  }

 private:
  std::vector<OrderedJson> embed(const std::vector<TextInput>& texts) {
    const ondol::Tensor rows = ondol::embed(*model_, *tokenizer_, texts, embed_);
    std::vector<OrderedJson> answers;
    for (int64_t i = 0; i < rows.size(0); ++i) {
      const float* row = rows.data<float>() + i * rows.size(1);
      answers.push_back({{"embedding", std::vector<float>(row, row + rows.size(1))}});
    }
    return answers;
  }

  std::vector<OrderedJson> classify(const std::vector<TextInput>& texts) {
    std::vector<OrderedJson> answers;
    for (std::vector<ondol::LabelScore>& labels : ondol::classify(*model_, *tokenizer_, texts, options_.texts)) {
      if (options_.top_k) labels.resize(std::min(labels.size(), static_cast<size_t>(*options_.top_k)));
      OrderedJson results = OrderedJson::array();
      for (const auto& [label, score] : labels) results.push_back({{"label", label}, {"score", score}});
      answers.push_back({{"results", std::move(results)}});
    }
    return answers;
  }

  std::vector<OrderedJson> classify_tokens(const std::vector<TextInput>& texts) {
    std::vector<OrderedJson> answers;
    const auto all = ondol::classify_tokens(*model_, *tokenizer_, texts, options_.texts);
    for (size_t i = 0; i < all.size(); ++i) {
      OrderedJson results = OrderedJson::array();
      for (const ondol::TokenLabel& token : all[i]) {
        const std::string& text = token.in_pair ? *texts[i].pair : texts[i].text;
        OrderedJson entry = {{"token", token.token},
                             {"label", token.label.label},
                             {"score", token.label.score},
                             {"start", characters_before(text, token.range.begin)},
                             {"end", characters_before(text, token.range.end)}};
        if (texts[i].pair) entry["text"] = token.in_pair ? "text_pair" : "text";
        results.push_back(std::move(entry));
      }
      answers.push_back({{"results", std::move(results)}});
    }
    return answers;
  }

  std::vector<OrderedJson> fill_masks(const std::vector<TextInput>& texts) {
    std::vector<OrderedJson> answers;
    for (const auto& fills :
         ondol::fill_masks(*model_, *tokenizer_, texts, options_.top_k.value_or(5), options_.texts)) {
      OrderedJson results = OrderedJson::array();
      const bool several = !fills.empty() && fills.front().position != fills.back().position;
      for (const ondol::MaskFill& fill : fills) {
        OrderedJson entry = {{"token", fill.token}, {"id", fill.id}, {"score", fill.score}};
        if (several) entry["position"] = fill.position;
        results.push_back(std::move(entry));
      }
      answers.push_back({{"results", std::move(results)}});
    }
    return answers;
  }

  std::vector<OrderedJson> answer(const std::vector<TextInput>& texts) {
    const ondol::AnswerOptions how{.count = options_.top_k.value_or(1),
                                   .max_answer_tokens = options_.max_answer_tokens,
                                   .stride = options_.stride,
                                   .no_answer_threshold = options_.null_threshold,
                                   .texts = options_.texts};
    const auto all = ondol::answer_questions(*model_, *tokenizer_, texts, how);
    std::vector<OrderedJson> answers;
    for (size_t i = 0; i < all.size(); ++i) {
      OrderedJson results = OrderedJson::array();
      for (const ondol::Answer& each : all[i]) {
        results.push_back({{"answer", each.text},
                           {"score", each.score},
                           {"start", characters_before(*texts[i].pair, each.range.begin)},
                           {"end", characters_before(*texts[i].pair, each.range.end)}});
      }
      answers.push_back({{"results", std::move(results)}});
    }
    return answers;
  }

  const Options& options_;
  ondol::EmbedOptions embed_;
  std::unique_ptr<ondol::Model> model_;
  std::optional<ondol::Tokenizer> tokenizer_;
};

/// One answer for a reader: numbers in a line, or a result a line.
std::string readable(const OrderedJson& answer) {
  std::string text;
  if (answer.contains("embedding")) {
    for (const auto& value : answer["embedding"]) text += (text.empty() ? "" : " ") + value.dump();
    return text + "\n";
  }
  for (const auto& result : answer["results"]) {
    std::string line;
    for (const auto& [key, value] : result.items()) {
      const std::string shown = value.is_string() ? one_line(value.get<std::string>()) : value.dump();
      line += (line.empty() ? "" : "\t") + shown;
    }
    text += line + "\n";
  }
  return text;
}

void run_predict(const Options& options, const GlobalOptions& global) {
  if (options.text.has_value() == options.file.has_value()) {
    throw UsageError("a text is needed: give one of --text and --file");
  }
  if (options.pair && options.file)
    throw UsageError("--text-pair goes with --text", "lines have the key \"text_pair\"");
  if (options.task != "embed" && (options.pooling || options.normalize)) {
    throw UsageError("--pooling and --normalize belong to the task embed");
  }
  Predictor predictor(options, global);
  if (options.text) {
    const OrderedJson answer = predictor.run({{*options.text, options.pair, "--text"}}).front();
    return global.json ? write_json(answer) : write_output(readable(answer));
  }
  ondol::TextReader reader(*options.file);
  std::vector<TextInput> texts;
  const auto answer_all = [&] {
    if (texts.empty()) return;
    for (const OrderedJson& answer : predictor.run(texts)) write_json(answer);
    texts.clear();
  };
  for (std::string line; reader.read_line(line);) {
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    texts.push_back(parse_line(line, concat(*options.file, " line ", reader.line_number())));
    if (texts.size() == kLinesAtATime) answer_all();
  }
  answer_all();
}

}  // namespace

void add_predict_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = program.app.add_subcommand("predict", "Embeddings, labels, masked tokens, answers");
  verb->add_option("MODEL_DIR", options->model, "Model directory")->required();
  verb->add_option("--task", options->task, "fill-mask, embed, classify, token-classify or qa")
      ->required()
      ->check(CLI::IsMember({"fill-mask", "embed", "classify", "token-classify", "qa"}));
  verb->add_option("--text", options->text, "The text; for qa the question");
  verb->add_option("--text-pair", options->pair, "Its second part; for qa the context");
  verb->add_option(
      "--file", options->file,
      R"(.jsonl, an object a line: {"text": …, "text_pair": …}, for qa also {"question": …, "context": …})");
  verb->add_option("--top-k", options->top_k, "Results of a text (default: 5 tokens of a mask, 1 answer, all labels)")
      ->check(whole_number<int64_t>(1));
  verb->add_option("--pooling", options->pooling, "Of embeddings: mean or cls (default: what the directory says, mean)")
      ->check(CLI::IsMember({"mean", "cls"}));
  verb->add_flag("--normalize", options->normalize, "Embeddings of length 1");
  verb->add_flag("--truncate", options->texts.truncate, "Cut texts that are longer than the model allows");
  verb->add_option("--max-answer-tokens", options->max_answer_tokens, "Longest answer of qa")
      ->check(whole_number<int64_t>(1))
      ->capture_default_str();
  verb->add_option("--stride", options->stride, "Tokens that neighbouring windows of a qa context share")
      ->check(whole_number<int64_t>())
      ->capture_default_str();
  verb->add_option("--null-threshold", options->null_threshold,
                   "qa may answer nothing: when that scores better by more than this");
  verb->add_option("--batch-tokens", options->texts.batch_tokens, "Tokens that run together (default: by device)")
      ->check(whole_number<int64_t>(1));
  program.run_on(verb, [options, &program] { run_predict(*options, program.global); });
}
