// Documents to batches: what a training run reads its samples from.
//
//   DataLoader train(config, DataSplit::train, {.encoder = &encoder, .cache_directory = "runs/x/data",
//                                               .vocab_size = model.info().vocab_size});
//   Batch batch = train.next(32);            // samples 0 … 31
//   std::string state = train.state();       // small JSON text
//   train.restore(state);                    // continues with sample 32, in O(1)
//
// Sources by file name: `.txt`, `.jsonl` (both also `.gz`; see documents.h), prepared `.bin`/`.idx` (see token_file.h),
// and
// `.safetensors` whose rows are finished samples. Text is tokenized once into cache_directory and then mapped; the
// cache is keyed by the content of the files and the tokenizer.
//
// Sample number g is the same whatever the batch size, the micro-batches and the number of ranks: batch i of size B is
// samples i·B … (i+1)·B-1. Each source is gone through in a new pseudo-random order each epoch (shuffle) or in file
// order.
//
// Objectives for structured examples (DataContext::record_encoder) read `.jsonl`, `.json`, `.csv`, `.tsv`, `.conll` and
// pairs of files instead: an example becomes samples of a length of their own, which stay in memory, and a batch is
// padded to its longest one, rounded up to a multiple of 8.
//
// From tokens, with T = sequence_length:
//   packing        the stream of all tokens is cut every T tokens; a sample is T inputs and T targets
//   no packing     a document is cut every T tokens into samples of its own, right-padded
// A position whose next token belongs to another document has no target, unless document_mask is off.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <ondol/data/batch.h>
#include <ondol/data/sentences.h>
#include <ondol/data/text_encoder.h>

namespace ondol {

class RecordEncoder;

struct DataSource {
  std::string path;  // `*`, `?` and `[…]` as in a shell
  /// Share of the samples. When no source has one, all are one corpus, every sample of which is seen once an epoch.
  std::optional<double> weight = {};
  /// Share at the end of DataConfig::mixture_samples, from which on it stays; it moves there linearly. By default
  /// weight.
  std::optional<double> final_weight = {};
  /// Structured examples only: a second file, whose lines belong to those of the first one; and what kind of file it
  /// is ("jsonl", "json", "csv", "tsv", "conll"; "": by its name).
  std::string target_path = {};
  std::string format = {};
};

/// Samples made of two segments of sentences, [CLS] A [SEP] B [SEP] (docs/config.md, "pairs").
struct SentencePairSettings {
  enum Task { none, next_sentence, sentence_order } task = none;
  double short_fraction = 0.1;   // share of the documents whose pairs are shorter
  bool same_each_epoch = false;  // else sampled anew
  bool operator==(const SentencePairSettings&) const = default;
};

struct DataConfig {
  std::vector<DataSource> train;
  std::vector<DataSource> validation;  // weights are not used here
  int64_t mixture_samples = 0;         // after which final weights hold
  /// Without validation sources: the last part of each training source, cut at a document where there is one.
  double validation_fraction = 0;
  int64_t sequence_length = 0;  // required, but for .safetensors rows
  bool packing = true;
  bool document_mask = true;  // off: attention, positions and targets run across documents
  bool shuffle = true;
  uint64_t shuffle_seed = 0;
  std::string document_separator = "file";
  std::string text_field = "text";
  /// Structured examples: what an objective's fields are called in the files, and the columns of tables without header.
  std::map<std::string, std::string> fields = {};
  std::vector<std::string> columns = {};
  /// Whether tokenized text keeps where sentences begin; sentence pairs need it.
  SentenceSplit sentences = SentenceSplit::none;
  SentencePairSettings pairs;  // set by objectives that need them; packing and document_mask are not used then
};

enum class DataSplit { train, validation };

struct DataContext {
  /// Needed for text; prepared files must then have been made with the same tokenizer.
  const TextEncoder* encoder = nullptr;
  /// Needed for text. Of several processes with one cache, one must have opened the data before the others do.
  std::string cache_directory;
  /// Ids must be below it; 0: not checked here.
  int64_t vocab_size = 0;
  int32_t pad_id = 0;
  /// Set by objectives that read structured examples: every file is then one of those (docs/finetuning.md).
  std::shared_ptr<const RecordEncoder> record_encoder = nullptr;
};

/// Where a sample comes from; record is -1 for samples cut from tokens.
struct SampleOrigin {
  int64_t record = -1;    // number of the example among all of its files; several samples may be made of one
  std::string place;      // "dev.tsv:17"
  std::string reference;  // what the encoder has kept for evaluation
};

namespace detail {
class SampleSource;
}

class DataLoader {
 public:
  /// Opens, checks and, for text, tokenizes. Validation is never shuffled. Throws UsageError or Error, naming the file,
  /// when there is no data, less than one sample, or a mixture of rows and text.
  DataLoader(const DataConfig& config, DataSplit split, const DataContext& context);
  ~DataLoader();
  DataLoader(DataLoader&&) noexcept;
  DataLoader& operator=(DataLoader&&) noexcept;

  /// The next `samples` samples, of which rows [first_row, first_row + rows) are returned (rows < 0: all): a rank reads
  /// its share of the global batch and stays in step with the others.
  Batch next(int64_t samples, int64_t first_row = 0, int64_t rows = -1);

  /// Samples of the first epoch in file order, by their numbers there, wherever next() stands. Throws when the sources
  /// are a mixture.
  Batch at(std::span<const int64_t> samples) const;
  SampleOrigin origin(int64_t sample) const;
  /// Samples 0 ... count-1, those with the most tokens first where samples have lengths of their own.
  std::vector<int64_t> by_length(int64_t count) const;

  /// Global number of the next sample.
  int64_t position() const;
  /// Samples of one epoch over all sources.
  int64_t samples_per_epoch() const;
  /// Back to sample 0, as before each evaluation.
  void reset();

  /// Position, counters and fingerprints of data and settings.
  std::string state() const;
  /// Throws Error when data or settings differ from those of the state; allow_changed_data accepts both.
  void restore(const std::string& state, bool allow_changed_data = false);

  /// One sample as next() gives it, but for the values, which are zero: for checks before the first step.
  Batch example() const;

  /// One line a source: kind, files, documents, tokens, samples, weight.
  std::string describe() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ondol
