#include "data/clean/clean_config.h"

#include <ondol/base/error.h>
#include <ondol/base/text_reader.h>

namespace ondol::clean {

namespace {

using Paths = std::vector<std::string>;

LanguageOptions read_language(const JsonReader& step) {
  LanguageOptions options;
  options.languages = step.require<Paths>("languages");
  options.min_score = step.get("min_score", options.min_score, between(0, 1));
  return options;
}

GopherQualityOptions read_gopher_quality(const JsonReader& step) {
  GopherQualityOptions o;
  o.min_words = step.get("min_words", o.min_words, at_least(0));
  o.max_words = step.get("max_words", o.max_words, at_least(1));
  o.min_mean_word_length = step.get("min_mean_word_length", o.min_mean_word_length, at_least(0));
  o.max_mean_word_length = step.get("max_mean_word_length", o.max_mean_word_length, above(0));
  o.max_symbol_ratio = step.get("max_symbol_ratio", o.max_symbol_ratio, at_least(0));
  o.max_bullet_lines = step.get("max_bullet_lines", o.max_bullet_lines, between(0, 1));
  o.max_ellipsis_lines = step.get("max_ellipsis_lines", o.max_ellipsis_lines, between(0, 1));
  o.min_alphabetic_words = step.get("min_alphabetic_words", o.min_alphabetic_words, between(0, 1));
  o.min_stop_words = step.get("min_stop_words", o.min_stop_words, at_least(0));
  o.stop_words = step.get("stop_words", o.stop_words);
  if (o.min_stop_words > static_cast<int64_t>(o.stop_words.size())) {
    step.fail("min_stop_words", concat("of ", o.stop_words.size(), " stop_words, ", o.min_stop_words, " cannot occur"));
  }
  return o;
}

template <size_t N>
void read_shares(const JsonReader& step, const std::string& key, std::array<double, N>& shares) {
  const std::vector<double> given = step.get(key, std::vector<double>(shares.begin(), shares.end()), between(0, 1));
  if (given.size() != N) step.fail(key, concat("expected ", N, " numbers, got ", given.size()));
  std::copy(given.begin(), given.end(), shares.begin());
}

GopherRepetitionOptions read_gopher_repetition(const JsonReader& step) {
  GopherRepetitionOptions o;
  o.max_duplicate_lines = step.get("max_duplicate_lines", o.max_duplicate_lines, between(0, 1));
  o.max_duplicate_paragraphs = step.get("max_duplicate_paragraphs", o.max_duplicate_paragraphs, between(0, 1));
  o.max_duplicate_line_characters =
      step.get("max_duplicate_line_characters", o.max_duplicate_line_characters, between(0, 1));
  o.max_duplicate_paragraph_characters =
      step.get("max_duplicate_paragraph_characters", o.max_duplicate_paragraph_characters, between(0, 1));
  read_shares(step, "max_top_ngram_characters", o.max_top_ngram_characters);
  read_shares(step, "max_duplicate_ngram_characters", o.max_duplicate_ngram_characters);
  return o;
}

std::vector<std::string> read_word_list(const std::string& path) {
  std::vector<std::string> words;
  TextReader reader(path);
  for (std::string line; reader.read_line(line);) {
    if (!line.empty()) words.push_back(line);
  }
  if (words.empty()) throw UsageError("empty word list (" + path + ")");
  return words;
}

C4Options read_c4(const JsonReader& step) {
  C4Options o;
  o.terminal_punctuation = step.get("terminal_punctuation", o.terminal_punctuation);
  o.min_words_per_line = step.get("min_words_per_line", o.min_words_per_line, at_least(0));
  o.max_word_length = step.get("max_word_length", o.max_word_length, at_least(1));
  o.javascript = step.get("javascript", o.javascript);
  o.policy_lines = step.get("policy_lines", o.policy_lines);
  o.citations = step.get("citations", o.citations);
  o.min_sentences = step.get("min_sentences", o.min_sentences, at_least(0));
  o.lorem_ipsum = step.get("lorem_ipsum", o.lorem_ipsum);
  o.curly_bracket = step.get("curly_bracket", o.curly_bracket);
  const std::string words = step.get("bad_words", std::string());
  if (!words.empty()) o.bad_words = read_word_list(words);
  return o;
}

RedactionOptions read_redaction(const JsonReader& step) {
  RedactionOptions o;
  o.email = step.get("email", o.email);
  o.ip = step.get("ip", o.ip);
  o.phone = step.get("phone", o.phone);
  o.card = step.get("card", o.card);
  o.resident = step.get("resident", o.resident);
  o.iban = step.get("iban", o.iban);
  return o;
}

DecontaminationOptions read_decontamination(const JsonReader& step) {
  DecontaminationOptions o;
  o.benchmarks = step.require<Paths>("benchmarks");
  o.ngram = step.get("ngram", o.ngram, between(1, 1000));
  o.min_ngram = step.get("min_ngram", std::min(o.min_ngram, o.ngram), between(1, static_cast<double>(o.ngram)));
  o.min_matches = step.get("min_matches", o.min_matches, at_least(1));
  o.cut = step.get_enum("overlap", "drop", {"drop", "cut"}) == "cut";
  o.window = step.get("window", o.window, at_least(0));
  o.min_part = step.get("min_part", o.min_part, at_least(0));
  o.max_parts = step.get("max_parts", o.max_parts, at_least(1));
  return o;
}

ExactDedupOptions read_exact_dedup(const JsonReader& step) {
  ExactDedupOptions o;
  o.normalize = step.get("normalize", o.normalize);
  return o;
}

MinHashDedupOptions read_minhash_dedup(const JsonReader& step) {
  MinHashDedupOptions o;
  o.minhash.ngram = step.get("ngram", o.minhash.ngram, between(1, 1000));
  o.minhash.bands = step.get("bands", o.minhash.bands, between(1, 1 << 16));
  o.minhash.rows = step.get("rows", o.minhash.rows, between(1, 1 << 16));
  o.minhash.seed = step.get("seed", o.minhash.seed);
  o.verify = step.get("verify", o.verify, between(0, 1));
  o.keep = step.get_enum("keep", "first", {"first", "longest"}) == "longest" ? MinHashDedupOptions::Keep::longest
                                                                             : MinHashDedupOptions::Keep::first;
  if (o.minhash.bands * o.minhash.rows > 1 << 16) step.fail("rows", "bands times rows must be at most 65536");
  return o;
}

CleanStep read_step(const JsonReader& step) {
  const std::string type = step.require_enum("type", {"language", "gopher_quality", "gopher_repetition", "c4", "redact",
                                                      "decontaminate", "exact_dedup", "minhash_dedup"});
  if (type == "language") return read_language(step);
  if (type == "gopher_quality") return read_gopher_quality(step);
  if (type == "gopher_repetition") return read_gopher_repetition(step);
  if (type == "c4") return read_c4(step);
  if (type == "redact") return read_redaction(step);
  if (type == "decontaminate") return read_decontamination(step);
  if (type == "exact_dedup") return read_exact_dedup(step);
  return read_minhash_dedup(step);
}

}  // namespace

CleanConfig read_clean_config(const Json& document, const std::string& name) {
  const JsonReader root(document, name);
  CleanConfig config;
  config.inputs = root.require<Paths>("input");
  config.output = root.require<std::string>("output");
  config.report = root.get("report", config.report);
  config.rejected = root.get("rejected", config.rejected);
  config.separator = root.get("separator", config.separator);
  config.text_field = root.get("text_field", config.text_field);
  constexpr double kMaxMebibytes = 1 << 24;
  const int64_t mebibytes = root.get<int64_t>("memory_limit_mib", static_cast<int64_t>(config.memory_limit >> 20),
                                              between(16, kMaxMebibytes));
  config.memory_limit = static_cast<uint64_t>(mebibytes) << 20;
  config.temporary_directory = root.get("temporary_directory", config.temporary_directory);
  for (const JsonReader& step : root.children("steps")) config.steps.push_back(read_step(step));
  root.finish();
  return config;
}

}  // namespace ondol::clean

namespace ondol {

CleanConfig load_clean_config(const std::string& path) { return clean::read_clean_config(load_json(path), path); }

}  // namespace ondol
