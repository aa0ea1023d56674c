// Texts that hold parts of benchmarks, found by the n-grams of words that they share.
//
//   const BenchmarkIndex index({.benchmarks = {"gsm8k_test.jsonl", "mmlu/*.csv"}});
//   const RuleResult result = index.apply(text);   // {"gsm8k_test.jsonl", "2 n-grams: \"natalia sold clips to …\""}
//
// After Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C: words are lower-cased, punctuation and
// spacing do not count, and 13 words in a row that a benchmark holds too are an overlap. An example shorter than 13
// words counts as a whole when it has at least `min_ngram` words; shorter ones are left out (too much text holds them
// by chance). n-grams are compared by 64-bit hashes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ondol/data/quality_rules.h>

namespace ondol {

struct DecontaminationOptions {
  /// Files, * ? […] allowed. Of .jsonl (.gz) and .json every string of every field is an example, of .txt, .tsv and
  /// .csv
  /// (.gz) every line.
  std::vector<std::string> benchmarks;
  int64_t ngram = 13;
  int64_t min_ngram = 8;
  int64_t min_matches = 1;  // different n-grams of one document
  /// Off: a document that overlaps is dropped. On: the n-gram and `window` characters on both sides are cut out; what
  /// remains in parts of at least `min_part` characters is joined with an empty line between. More than `max_parts`, or
  /// none, and the document is dropped.
  bool cut = false;
  int64_t window = 200;
  int64_t min_part = 200;
  int64_t max_parts = 10;
};

class BenchmarkIndex {
 public:
  /// Reads the benchmarks. Throws UsageError when there is none, or nothing in them is long enough.
  explicit BenchmarkIndex(const DecontaminationOptions& options);

  /// The rule that drops a document is the name of the benchmark file with the most n-grams in it. `cut`, when given,
  /// says whether the text was changed.
  RuleResult apply(std::string& text, bool* cut = nullptr) const;

  int64_t num_ngrams() const { return static_cast<int64_t>(ngrams_.size()); }
  int64_t num_examples() const { return num_examples_; }
  int64_t num_too_short() const { return num_too_short_; }
  const std::vector<std::string>& files() const { return files_; }

 private:
  struct Ngram {
    uint64_t hash;
    uint32_t file;
  };
  struct Match {
    size_t word;    // where it begins
    size_t length;  // words
    Ngram ngram;
  };
  void read_file(const std::string& path);
  void add_example(const std::string& text);
  const Ngram* find(uint64_t hash) const;
  std::vector<Match> matches(const std::vector<uint64_t>& words) const;
  RuleResult cut_out(std::string& text, const std::vector<std::pair<size_t, size_t>>& parts_to_cut,
                     const RuleResult& overlap) const;

  DecontaminationOptions options_;
  std::vector<std::string> files_;
  std::vector<Ngram> ngrams_;     // sorted by hash
  std::vector<uint64_t> filter_;  // bits by hash: most n-grams of a text are nowhere near
  std::vector<int64_t> lengths_;  // of n-grams, in words
  int64_t num_examples_ = 0, num_too_short_ = 0;
};

}  // namespace ondol
