// Cleans a corpus: documents from files pass through a list of steps; what is left is written, what was dropped is
// counted.
//
//   CleanConfig config;
//   config.inputs = {"crawl/*.jsonl.gz"};
//   config.output = "clean.jsonl.gz";
//   config.steps = {LanguageOptions{.languages = {"en", "ko"}}, GopherQualityOptions{}, MinHashDedupOptions{},
//                   RedactionOptions{}};
//   const CleanReport report = clean_documents(config);
//   report.documents_out; report.steps[1].reasons.at("too_few_words").documents;
//
// Steps run in the order of the list, each on what the ones before have left. Documents stay in the order of the files,
// and results depend neither on the number of threads nor on the memory that is allowed. JSON lines keep all other
// fields byte for byte.
//
// Memory: `memory_limit` for what deduplication sorts, about six batches of 8 MiB or of the longest document (up to
// 1 GiB), and for each document of the input 3 bits with exact_dedup, 4 bytes with minhash_dedup (12 when the longest
// is kept), which must be within the limit. At most 2^32 - 1 documents. What does not fit lies in files without a name
// in `temporary_directory`, for each document: exact_dedup 20 bytes, minhash_dedup 12 bytes a band (168 with 14 bands)
// and, when candidates are verified, 4 bytes for each hash function; and, when a step stands before a deduplication,
// what it has left, uncompressed, in up to twice its size.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include <ondol/data/decontamination.h>
#include <ondol/data/minhash.h>
#include <ondol/data/quality_rules.h>
#include <ondol/data/redaction.h>

namespace ondol {

/// Keeps documents in one of the languages (language.h). Reasons: "unsure", or the language that it is.
struct LanguageOptions {
  std::vector<std::string> languages;
  double min_score = 0.65;
};

/// Keeps the first of equal documents; equality is that of 128-bit hashes.
struct ExactDedupOptions {
  bool normalize = false;  // case, punctuation and spacing do not count
};

/// Keeps one of each cluster of documents that candidates connect (minhash.h).
struct MinHashDedupOptions {
  enum class Keep { first, longest };
  MinHashOptions minhash;
  /// Candidates whose estimated Jaccard index is below do not count; 0: all count, as RefinedWeb and FineWeb do it.
  double verify = 0;
  Keep keep = Keep::first;
};

using CleanStep = std::variant<LanguageOptions, GopherQualityOptions, GopherRepetitionOptions, C4Options,
                               RedactionOptions, DecontaminationOptions, ExactDedupOptions, MinHashDedupOptions>;

/// "language", "gopher_quality", "gopher_repetition", "c4", "redact", "decontaminate", "exact_dedup", "minhash_dedup".
const char* step_name(const CleanStep& step);

struct CleanConfig {
  std::vector<std::string> inputs;  // .txt or .jsonl, plain or .gz; * ? […] allowed
  std::string output;               // .txt or .jsonl, plain or .gz; one file
  std::string report;               // JSON; empty: none is written
  std::string rejected;             // .jsonl (.gz): the dropped documents with step, reason, detail, source and text
  std::string separator = "file";   // of the documents of .txt files (documents.h), of the output too
  std::string text_field = "text";
  std::vector<CleanStep> steps;
  uint64_t memory_limit = uint64_t{1} << 30;
  std::string temporary_directory;  // empty: that of the output
};

/// Reads a configuration (docs/data.md). Throws UsageError.
CleanConfig load_clean_config(const std::string& path);

struct ReasonReport {
  int64_t documents = 0;
  int64_t bytes = 0;                  // of text
  std::vector<std::string> examples;  // the first few: "FILE:LINE (detail)"
};

struct StepReport {
  std::string type;
  int64_t documents_in = 0, bytes_in = 0;
  int64_t documents_dropped = 0, bytes_dropped = 0;
  std::map<std::string, ReasonReport> reasons;
  int64_t documents_changed = 0;
  std::map<std::string, int64_t> counts;  // what was replaced, cut, or seen (languages), by name
};

struct CleanReport {
  int64_t files = 0;
  int64_t documents_in = 0, bytes_in = 0;    // bytes of text
  int64_t documents_out = 0, bytes_out = 0;  // likewise
  std::vector<StepReport> steps;
};

/// The report as one JSON document over several lines.
std::string report_json(const CleanReport& report);

struct CleanProgress {
  int pass = 1, passes = 1;  // each deduplication ends a pass over its documents
  int64_t documents = 0, bytes = 0;
};

/// Writes output, rejected documents and report, each under its name only when all is done. Throws UsageError for a
/// configuration that cannot work and Error for files that cannot be read or written.
CleanReport clean_documents(const CleanConfig& config,
                            const std::function<void(const CleanProgress&)>& progress = nullptr);

}  // namespace ondol
