// ondol tokenizer train | encode | decode.
#include <charconv>
#include <cstdio>

#include <ondol/base/text_reader.h>
#include <ondol/data/documents.h>
#include <ondol/tokenizer/bpe_trainer.h>
#include <ondol/tokenizer/tokenizer.h>
#include <ondol/tokenizer/unigram_trainer.h>
#include <ondol/tokenizer/wordpiece_trainer.h>

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
  std::string bos, eos, pad;
  int sentinels = 0;
  bool no_eos = false, cased = false, no_byte_fallback = false, nfkc = false;
};

struct CodeOptions {
  std::string model, file, source, text_pair;
  bool no_special_tokens = false, offsets = false;
  int64_t max_length = 0;
};

std::string read_standard_input() {
  std::string text;
  char buffer[1 << 16];
  for (size_t count; (count = std::fread(buffer, 1, sizeof buffer, stdin)) > 0;) text.append(buffer, count);
  return text;
}

using NextText = std::function<std::optional<std::string>()>;

ondol::Tokenizer train_bpe_tokenizer(const NextText& next_text, TrainOptions& options) {
  ondol::BpeTrainerOptions& bpe = options.bpe;
  bpe.vocab_size = options.vocab_size;
  const std::string eos = options.no_eos ? "" : options.eos.empty() ? "<|endoftext|>" : options.eos;
  for (const auto& [role, token] : {std::pair{"eos", eos}, {"bos", options.bos}, {"pad", options.pad}}) {
    if (token.empty()) continue;
    bpe.roles[role] = token;
    if (std::find(bpe.special_tokens.begin(), bpe.special_tokens.end(), token) == bpe.special_tokens.end()) {
      bpe.special_tokens.push_back(token);
    }
  }
  return ondol::train_bpe(next_text, bpe);
}

ondol::Tokenizer train_wordpiece_tokenizer(const NextText& next_text, const TrainOptions& options) {
  if (!options.eos.empty() || !options.bos.empty() || !options.pad.empty()) {
    throw UsageError("--bos, --eos and --pad are not for wordpiece", "its tokens are [PAD] [UNK] [CLS] [SEP] [MASK]");
  }
  return ondol::train_wordpiece(next_text, {.vocab_size = options.vocab_size,
                                            .min_frequency = options.bpe.min_frequency,
                                            .lowercase = !options.cased,
                                            .special_tokens = options.bpe.special_tokens});
}

ondol::Tokenizer train_unigram_tokenizer(const NextText& next_text, const TrainOptions& options) {
  ondol::UnigramTrainerOptions unigram;
  unigram.vocab_size = options.vocab_size;
  unigram.byte_fallback = !options.no_byte_fallback;
  unigram.nfkc = options.nfkc;
  unigram.special_tokens = options.bpe.special_tokens;
  const std::string eos = options.no_eos ? "" : options.eos.empty() ? "</s>" : options.eos;
  for (const auto& [role, token] : {std::pair{"eos", eos}, {"bos", options.bos}, {"pad", options.pad}}) {
    if (!token.empty()) unigram.roles[role] = token;
  }
  return ondol::train_unigram(next_text, unigram);
}

void run_train(TrainOptions options, const GlobalOptions& global) {
  if (options.type != "bpe" && options.type != "wordpiece" && options.type != "unigram") {
    throw UsageError(concat("tokenizers of type \"", options.type, "\" cannot be trained (--type)"),
                     "use bpe, wordpiece or unigram");
  }
  std::vector<std::string> files;
  for (const std::string& input : options.inputs) {
    for (const std::string& path : ondol::expand_path(input)) files.push_back(path);
  }
  for (int i = options.sentinels; i-- > 0;) {  // in the order of T5's vocabulary
    options.bpe.special_tokens.push_back(concat("<extra_id_", i, ">"));
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
  const ondol::Tokenizer tokenizer = options.type == "bpe"         ? train_bpe_tokenizer(next_text, options)
                                     : options.type == "wordpiece" ? train_wordpiece_tokenizer(next_text, options)
                                                                   : train_unigram_tokenizer(next_text, options);
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

/// With offsets (bytes of the text), or of a pair.
void write_encoding(const ondol::Tokenizer& tokenizer, const ondol::Encoding& encoding, bool pair, bool offsets) {
  OrderedJson tokens = OrderedJson::array();
  for (const int32_t id : encoding.ids) tokens.push_back(tokenizer.id_to_token(id));
  OrderedJson answer = {{"ids", encoding.ids}, {"tokens", tokens}};
  if (pair) answer["type_ids"] = encoding.type_ids;
  if (offsets) {
    OrderedJson ranges = OrderedJson::array();
    for (const ondol::TextRange& range : encoding.offsets) ranges.push_back({range.begin, range.end});
    answer["offsets"] = ranges;
    answer["special_tokens_mask"] = encoding.special_mask;
    answer["word_ids"] = encoding.word_ids;
  }
  write_json(answer);
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
  const ondol::EncodeOptions encode{.add_special_tokens = !options.no_special_tokens, .max_length = options.max_length};
  const bool detailed = options.offsets || !options.text_pair.empty();
  if (options.offsets && !global.json) throw UsageError("--offsets needs --json");
  if (detailed && !options.file.empty()) throw UsageError("--offsets and --text-pair are for one text, not for --file");
  if (detailed) {
    const std::string text = read_standard_input();
    const bool pair = !options.text_pair.empty();
    const ondol::Encoding encoding =
        pair ? tokenizer.encode_detailed(text, options.text_pair, encode) : tokenizer.encode_detailed(text, encode);
    if (global.json) return write_encoding(tokenizer, encoding, pair, options.offsets);
    return write_encoding(tokenizer, encoding.ids, false);
  }
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
  CLI::App* train_verb = verb->add_subcommand("train", "Train a tokenizer: byte-level BPE, WordPiece or Unigram");
  train_verb->add_option("--type", train->type, "bpe, wordpiece or unigram")->capture_default_str();
  train_verb
      ->add_option("--vocab-size", train->vocab_size,
                   "All of it: special tokens, bytes or characters, and what is learnt")
      ->required()
      ->check(whole_number<int64_t>());
  train_verb->add_option("--input", train->inputs, ".txt or .jsonl files, also .gz, * ? […] allowed")->required();
  train_verb->add_option("--output", train->output, "Directory to write")->required()->check(not_empty());
  train_verb->add_option("--separator", train->separator, "Documents of .txt: file, line, blank_line or a text")
      ->capture_default_str();
  train_verb->add_option("--split", train->bpe.split_pattern, "bpe: gpt2, cl100k, qwen2 or a regular expression")
      ->capture_default_str();
  train_verb
      ->add_option("--min-frequency", train->bpe.min_frequency, "bpe, wordpiece: pairs seen less often are not merged")
      ->check(whole_number<int64_t>());
  train_verb->add_option("--special-token", train->bpe.special_tokens, "Further special tokens")
      ->allow_extra_args(false);
  train_verb
      ->add_option("--sentinels", train->sentinels,
                   "Special tokens <extra_id_0>, <extra_id_1>, ... for span corruption, so many (T5 has 100)")
      ->check(CLI::Range(0, 10000));
  train_verb
      ->add_option("--eos", train->eos, "End-of-document token, \"\" for none (bpe: <|endoftext|>, unigram: </s>)")
      ->each([train](const std::string& token) { train->no_eos = token.empty(); });
  train_verb->add_option("--bos", train->bos, "Begin token");
  train_verb->add_option("--pad", train->pad, "Padding token");
  train_verb->add_flag("--cased", train->cased, "wordpiece: keep upper case and accents");
  train_verb->add_flag("--no-byte-fallback", train->no_byte_fallback,
                       "unigram: rare characters are unknown, not bytes");
  train_verb->add_flag("--nfkc", train->nfkc, "unigram: normalize text to NFKC");
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
    if (run == run_encode) {
      code_verb->add_option("--text-pair", options->text_pair, "A second text");
      code_verb->add_flag("--offsets", options->offsets, "With --json: places of the tokens in the text, in bytes");
      code_verb->add_option("--max-length", options->max_length, "Cut to so many tokens")
          ->check(whole_number<int64_t>());
    }
    program.run_on(code_verb, [options, run, &program] { run(*options, program.global); });
  };
  add_code_verb("encode", "Text to token ids (.jsonl: \"text\")", run_encode);
  add_code_verb("decode", "Token ids to text (.jsonl: \"ids\")", run_decode);
}
