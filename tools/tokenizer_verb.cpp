// ondol tokenizer train | encode | decode.
#include <charconv>
#include <cstdio>

#include <ondol/base/text_reader.h>
#include <ondol/data/documents.h>
#include <ondol/tokenizer/bpe_trainer.h>
#include <ondol/tokenizer/tokenizer.h>

#include "base/json_reader.h"
#include "json_output.h"
#include "option_checks.h"
#include "verbs.h"

namespace {

using ondol::concat;
using ondol::UsageError;
using Ids = std::vector<int32_t>;

struct TrainOptions {
  std::string type = "bpe";
  int64_t vocab_size = 0;
  std::vector<std::string> inputs;
  std::string output;
  std::string separator = "file";
  ondol::BpeTrainerOptions bpe;
  std::string bos, eos = "<|endoftext|>", pad;
};

struct CodeOptions {
  std::string model, file, source;
  bool no_special_tokens = false;
};

std::string read_standard_input() {
  std::string text;
  char buffer[1 << 16];
  for (size_t count; (count = std::fread(buffer, 1, sizeof buffer, stdin)) > 0;) text.append(buffer, count);
  return text;
}

void run_train(TrainOptions options, const GlobalOptions& global) {
  if (options.type != "bpe") {
    throw UsageError(concat("tokenizers of type \"", options.type, "\" cannot be trained (--type)"), "use bpe");
  }
  ondol::BpeTrainerOptions& bpe = options.bpe;
  bpe.vocab_size = options.vocab_size;
  for (const auto& [role, token] : {std::pair{"eos", options.eos}, {"bos", options.bos}, {"pad", options.pad}}) {
    if (token.empty()) continue;
    bpe.roles[role] = token;
    if (std::find(bpe.special_tokens.begin(), bpe.special_tokens.end(), token) == bpe.special_tokens.end()) {
      bpe.special_tokens.push_back(token);
    }
  }
  std::vector<std::string> files;
  for (const std::string& input : options.inputs) {
    for (const std::string& path : ondol::expand_path(input)) files.push_back(path);
  }
  size_t next_file = 0;
  std::unique_ptr<ondol::DocumentReader> reader;
  const auto next_text = [&]() -> std::optional<std::string> {
    ondol::DocumentPiece piece;
    while (true) {
      if (reader && reader->next(piece)) return std::move(piece.text);
      if (next_file == files.size()) return std::nullopt;
      reader = std::make_unique<ondol::DocumentReader>(files[next_file++],
                                                       ondol::DocumentOptions{.separator = options.separator});
    }
  };
  const ondol::Tokenizer tokenizer = ondol::train_bpe(next_text, bpe);
  tokenizer.save(options.output);
  if (global.json) {
    write_json({{"output", options.output}, {"vocab_size", tokenizer.vocab_size()}, {"files", files.size()}});
  } else {
    write_output(concat(options.output, ": ", tokenizer.vocab_size(), " tokens\n"));
  }
  if (tokenizer.vocab_size() < options.vocab_size) {
    log(LogLevel::warning, concat("warning: the text gives only ", tokenizer.vocab_size(), " tokens"));
  }
}

void write_encoding(const ondol::Tokenizer& tokenizer, const Ids& ids, bool json) {
  if (json) {
    OrderedJson tokens = OrderedJson::array();
    for (const int32_t id : ids) tokens.push_back(tokenizer.id_to_token(id));
    return write_json({{"ids", ids}, {"tokens", tokens}});
  }
  std::string line;
  for (const int32_t id : ids) line += (line.empty() ? "" : " ") + std::to_string(id);
  write_output(line + "\n");
}

bool is_jsonl(const std::string& path) { return path.ends_with(".jsonl") || path.ends_with(".jsonl.gz"); }

/// Calls `body` for every document of a file, in the order of its lines; empty lines count, but not those of .jsonl.
void for_each_line(const std::string& path,
                   const std::function<void(const std::string& text, const std::string& place)>& body) {
  ondol::TextReader reader(path);
  std::string line;
  const bool json = is_jsonl(path);
  while (reader.read_line(line)) {
    if (json && line.find_first_not_of(" \t") == std::string::npos) continue;
    body(line, concat(path, " line ", reader.line_number()));
  }
}

void check_source(const CodeOptions& options) {
  if (!options.source.empty() && options.source != "-") {
    throw UsageError(concat("unexpected argument \"", options.source, "\""), "give --file F, or - for standard input");
  }
  if (!options.source.empty() && !options.file.empty()) throw UsageError("give --file or -, not both");
}

void run_encode(const CodeOptions& options, const GlobalOptions& global) {
  check_source(options);
  const ondol::Tokenizer tokenizer = ondol::load_tokenizer(options.model);
  const ondol::EncodeOptions encode{.add_special_tokens = !options.no_special_tokens};
  if (options.file.empty())
    return write_encoding(tokenizer, tokenizer.encode(read_standard_input(), encode), global.json);

  constexpr size_t kBatchBytes = size_t{16} << 20;
  std::vector<std::string> texts;
  size_t bytes = 0;
  const auto flush = [&] {
    for (const Ids& ids : tokenizer.encode_batch(texts, encode)) write_encoding(tokenizer, ids, global.json);
    texts.clear();
    bytes = 0;
  };
  for_each_line(options.file, [&](const std::string& line, const std::string& place) {
    if (is_jsonl(options.file)) {
      const ondol::Json document = ondol::parse_json(line, place);
      texts.push_back(ondol::JsonReader(document, place).require<std::string>("text"));
    } else {
      texts.push_back(line);
    }
    bytes += texts.back().size();
    if (bytes >= kBatchBytes) flush();
  });
  flush();
}

Ids parse_ids(const std::string& text, const std::string& place) {
  Ids ids;
  const char* at = text.data();
  const char* end = at + text.size();
  const auto separator = [](char c) {
    return c == ' ' || c == ',' || c == '\n' || c == '\r' || c == '\t' || c == '[' || c == ']';
  };
  while (true) {
    while (at < end && separator(*at)) ++at;
    if (at == end) return ids;
    int32_t id = 0;
    const auto [next, error] = std::from_chars(at, end, id);
    if (error != std::errc{} || (next < end && !separator(*next))) {
      throw UsageError(concat("not a list of token ids (", place, ")"), "write them as 5 17 2 or 5,17,2");
    }
    ids.push_back(id);
    at = next;
  }
}

void run_decode(const CodeOptions& options, const GlobalOptions& global) {
  check_source(options);
  const ondol::Tokenizer tokenizer = ondol::load_tokenizer(options.model);
  const auto answer = [&](const Ids& ids) {
    const std::string text = tokenizer.decode(ids, options.no_special_tokens);
    global.json ? write_json({{"text", text}}) : write_output(text + "\n");
  };
  if (options.file.empty()) return answer(parse_ids(read_standard_input(), "standard input"));
  for_each_line(options.file, [&](const std::string& line, const std::string& place) {
    if (!is_jsonl(options.file)) return answer(parse_ids(line, place));
    const ondol::Json document = ondol::parse_json(line, place);
    answer(ondol::JsonReader(document, place).require<Ids>("ids"));
  });
}

}  // namespace

void add_tokenizer_verb(Program& program) {
  CLI::App* verb = program.app.add_subcommand("tokenizer", "Train and use tokenizers");
  verb->require_subcommand(1);

  auto train = std::make_shared<TrainOptions>();
  CLI::App* train_verb = verb->add_subcommand("train", "Train a byte-level BPE tokenizer");
  train_verb->add_option("--type", train->type, "bpe")->capture_default_str();
  train_verb->add_option("--vocab-size", train->vocab_size, "Special tokens, 256 bytes and merges together")
      ->required()
      ->check(whole_number<int64_t>());
  train_verb->add_option("--input", train->inputs, ".txt or .jsonl files, also .gz, * ? […] allowed")->required();
  train_verb->add_option("--output", train->output, "Directory to write")->required()->check(not_empty());
  train_verb->add_option("--separator", train->separator, "Documents of .txt: file, line, blank_line or a text")
      ->capture_default_str();
  train_verb->add_option("--split", train->bpe.split_pattern, "gpt2, cl100k, qwen2 or a regular expression")
      ->capture_default_str();
  train_verb->add_option("--min-frequency", train->bpe.min_frequency, "Pairs seen less often are not merged")
      ->check(whole_number<int64_t>());
  train_verb->add_option("--special-token", train->bpe.special_tokens, "Further special tokens")
      ->allow_extra_args(false);
  train_verb->add_option("--eos", train->eos, "End-of-document token, \"\" for none")->capture_default_str();
  train_verb->add_option("--bos", train->bos, "Begin token");
  train_verb->add_option("--pad", train->pad, "Padding token");
  program.run_on(train_verb, [train, &program] { run_train(*train, program.global); });

  const auto add_code_verb = [&](const char* name, const char* help,
                                 void (*run)(const CodeOptions&, const GlobalOptions&)) {
    auto options = std::make_shared<CodeOptions>();
    CLI::App* code_verb = verb->add_subcommand(name, help);
    code_verb->add_option("MODEL_DIR", options->model, "Model directory, or a tokenizer file")->required();
    code_verb->add_option("SOURCE", options->source, "-: all of standard input as one text (the default)")
        ->type_name("");
    code_verb->add_option("--file", options->file,
                          "One answer a line: .jsonl holds one object a line, others one text a line");
    code_verb->add_flag("--no-special-tokens", options->no_special_tokens, "Neither add nor show special tokens");
    program.run_on(code_verb, [options, run, &program] { run(*options, program.global); });
  };
  add_code_verb("encode", "Text to token ids (.jsonl: \"text\")", run_encode);
  add_code_verb("decode", "Token ids to text (.jsonl: \"ids\")", run_decode);
}
