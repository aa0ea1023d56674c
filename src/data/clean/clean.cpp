#include <ondol/data/clean.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <unordered_map>

#include <ondol/base/error.h>
#include <ondol/base/file.h>
#include <ondol/base/parallel.h>

#include "data/clean/document_source.h"
#include "data/clean/document_step.h"
#include "data/clean/document_writer.h"
#include "data/clean/duplicates.h"
#include "data/clean/json_row.h"

namespace ondol {

namespace {

using namespace clean;

constexpr size_t kMaxExamples = 5;
constexpr uint64_t kMinMemory = uint64_t{16} << 20;
constexpr const char* kDuplicate = "duplicate";

std::unique_ptr<DuplicateFinder> make_finder(const CleanStep& step, uint64_t memory, const std::string& directory) {
  if (const auto* exact = std::get_if<ExactDedupOptions>(&step))
    return make_duplicate_finder(*exact, memory, directory);
  return make_duplicate_finder(std::get<MinHashDedupOptions>(step), memory, directory);
}

std::vector<std::string> expand_inputs(const CleanConfig& config) {
  std::vector<std::string> files;
  for (const std::string& input : config.inputs) {
    for (std::string& path : expand_path(input)) files.push_back(std::move(path));
  }
  if (files.empty()) throw UsageError("no input files to clean");
  return files;
}

void check_outputs(const CleanConfig& config, const std::vector<std::string>& files) {
  if (config.output.empty()) throw UsageError("no output file to write cleaned documents to");
  const std::vector<std::string> outputs = {config.output, config.report, config.rejected};
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].empty()) continue;
    std::error_code error;
    for (const std::string& file : files) {
      if (std::filesystem::equivalent(outputs[i], file, error)) {
        throw UsageError("input and output are the same file (" + file + ")");
      }
    }
    if (std::find(outputs.begin(), outputs.begin() + static_cast<std::ptrdiff_t>(i), outputs[i]) !=
        outputs.begin() + static_cast<std::ptrdiff_t>(i)) {
      throw UsageError("two outputs have the same name (" + outputs[i] + ")");
    }
  }
  if (!config.rejected.empty() && !config.rejected.ends_with(".jsonl") && !config.rejected.ends_with(".jsonl.gz")) {
    throw UsageError("rejected documents are written as .jsonl or .jsonl.gz (" + config.rejected + ")");
  }
}

/// What happened to one document in one pass.
struct Outcome {
  std::vector<StepResult> results;    // of the steps that it reached
  std::vector<uint64_t> bytes;        // of its text before each of them
  std::vector<uint32_t> description;  // for the deduplication that ends the pass
};

class CleanRun {
 public:
  CleanRun(const CleanConfig& config, const std::function<void(const CleanProgress&)>& progress)
      : config_(config), files_(expand_inputs(config)), progress_(progress) {
    check_outputs(config_, files_);
    if (config_.memory_limit < kMinMemory) {
      throw UsageError(
          concat("memory limit of ", config_.memory_limit, " bytes: at least ", kMinMemory >> 20, " MiB are needed"));
    }
    for (const CleanStep& step : config_.steps) {
      steps_.push_back(make_document_step(step));
      report_.steps.push_back({.type = step_name(step)});
      progress_now_.passes += steps_.back() == nullptr;
    }
    const std::string parent = parent_directory(config_.output);
    directory_ = config_.temporary_directory.empty() ? parent : config_.temporary_directory;
    make_directories(parent);
    report_.files = static_cast<int64_t>(files_.size());
  }

  CleanReport run() {
    writer_.emplace(config_);
    if (!config_.rejected.empty()) rejected_.emplace(config_.rejected);
    size_t begin = 0;
    for (size_t i = 0; i < steps_.size(); ++i) {
      if (steps_[i] != nullptr) continue;
      run_pass(begin, i);
      begin = i + 1;
    }
    run_pass(begin, steps_.size());
    writer_->commit();
    if (rejected_) rejected_->commit();
    if (!config_.report.empty()) write_file_atomic(config_.report, report_json(report_));
    return std::move(report_);
  }

 private:
  /// Steps [begin, end) on every document that is left, and the deduplication at `end` if there is one.
  void run_pass(size_t begin, size_t end) {
    const bool last = end == steps_.size();
    progress_now_.documents = progress_now_.bytes = 0;
    BatchReader reader(open_source());
    std::unique_ptr<DuplicateFinder> finder;
    if (!last) finder = make_finder(config_.steps[end], config_.memory_limit / 2, directory_);
    // Documents that the steps may have changed or dropped are kept for the next pass, else it reads the same source.
    std::unique_ptr<DocumentSpill> spill;
    if (!last && begin < end) spill = std::make_unique<DocumentSpill>(directory_);
    uint32_t kept = 0;
    uint64_t read = 0;
    for (DocumentBatch batch; reader.next(batch);) {
      drop_duplicates(batch);
      std::vector<Outcome> outcomes(batch.documents.size());
      parallel_for(static_cast<int64_t>(outcomes.size()), 1, [&](int64_t first, int64_t after) {
        for (auto i = static_cast<size_t>(first); i < static_cast<size_t>(after); ++i) {
          outcomes[i] = apply_steps(batch.documents[i], begin, end, finder.get());
        }
      });
      for (size_t i = 0; i < outcomes.size(); ++i) {
        const Document& document = batch.documents[i];
        if (!record(document, outcomes[i], begin)) continue;
        if (last) {
          writer_->write(document, place_of(document, files_));
          ++report_.documents_out;
          report_.bytes_out += static_cast<int64_t>(document.text.size());
          continue;
        }
        ++report_.steps[end].documents_in;
        report_.steps[end].bytes_in += static_cast<int64_t>(document.text.size());
        if (spill) spill->append(document);
        finder->add(spill ? kept : batch.ordinals[i], document.text.size(), outcomes[i].description);
        ++kept;
      }
      read = batch.read;
      if (progress_) progress_(progress_now_);
    }
    // What the last pass over this source found is about these documents: their number must not have changed.
    ONDOL_CHECK(read == source_documents_ || first_of_source_, "the input has changed while it was read: ", read,
                " documents instead of ", source_documents_, " (", files_[0], ")");
    source_documents_ = read;
    first_of_source_ = false;
    finish_examples();
    if (!last) finish_deduplication(*finder, end, std::move(spill), kept, static_cast<uint32_t>(read));
    ++progress_now_.pass;
  }

  std::unique_ptr<DocumentSource> open_source() {
    if (spill_) return std::make_unique<SpillSource>(*spill_);
    return std::make_unique<FileSource>(files_, config_);
  }

  /// What a step sees of a document happens here, on any thread; it is counted later, in order.
  Outcome apply_steps(Document& document, size_t begin, size_t end, const DuplicateFinder* finder) const {
    Outcome outcome;
    for (size_t s = begin; s < end; ++s) {
      outcome.bytes.push_back(document.text.size());
      outcome.results.push_back(steps_[s]->apply(document.text));
      const StepResult& result = outcome.results.back();
      document.changed = document.changed || result.changed;
      if (!result.rule.keep()) return outcome;
    }
    if (finder != nullptr) finder->describe(document.text, outcome.description);
    return outcome;
  }

  /// Counts what the steps did; false for a document that was dropped.
  bool record(const Document& document, const Outcome& outcome, size_t begin) {
    progress_now_.bytes += static_cast<int64_t>(document.text.size());
    ++progress_now_.documents;
    for (size_t i = 0; i < outcome.results.size(); ++i) {
      StepReport& step = report_.steps[begin + i];
      const StepResult& result = outcome.results[i];
      const auto bytes = static_cast<int64_t>(outcome.bytes[i]);
      ++step.documents_in;
      step.bytes_in += bytes;
      step.documents_changed += result.changed;
      for (const auto& [name, count] : result.counts) {
        if (count > 0) step.counts[name] += count;
      }
      if (!result.seen.empty()) ++step.counts[result.seen];
      if (result.rule.keep()) continue;
      count_dropped(step, document, result.rule, bytes);
      return false;
    }
    return true;
  }

  void count_dropped(StepReport& step, const Document& document, const RuleResult& rule, int64_t bytes) {
    ++step.documents_dropped;
    step.bytes_dropped += bytes;
    ReasonReport& reason = step.reasons[rule.rule];
    ++reason.documents;
    reason.bytes += bytes;
    const std::string place = place_of(document, files_);
    if (reason.examples.size() < kMaxExamples && rule.rule != kDuplicate) {
      reason.examples.push_back(concat(place, " (", rule.detail, ")"));
    }
    if (!rejected_) return;
    rejected_->write(concat("{\"step\": ", json_string(step.type), ", \"reason\": ", json_string(rule.rule),
                            ", \"detail\": ", json_string(rule.detail), ", \"source\": ", json_string(place), ", ",
                            json_string(config_.text_field), ": ", json_string(document.text), "}\n"));
  }

  /// Takes out of a batch what the deduplications before this pass have dropped.
  void drop_duplicates(DocumentBatch& batch) {
    DocumentBatch left;
    left.read = batch.read;
    for (size_t i = 0; i < batch.documents.size(); ++i) {
      Document& document = batch.documents[i];
      const uint32_t ordinal = batch.ordinals[i];
      if (first_pass_) {
        ++report_.documents_in;
        report_.bytes_in += static_cast<int64_t>(document.text.size());
      }
      if (const auto wanted = places_.find(ordinal); wanted != places_.end()) {
        wanted->second = place_of(document, files_);
      }
      if (ordinal < fresh_.size() && fresh_[ordinal]) {
        count_dropped(report_.steps[deduplication_], document, {kDuplicate, ""},
                      static_cast<int64_t>(document.text.size()));
        continue;
      }
      if (ordinal < dropped_.size() && dropped_[ordinal]) continue;
      left.ordinals.push_back(ordinal);
      left.documents.push_back(std::move(document));
    }
    batch = std::move(left);
  }

  /// The examples of a deduplication need the places of both documents, which the pass after it has seen.
  void finish_examples() {
    for (const auto& [dropped, instead] : examples_) {
      report_.steps[deduplication_].reasons[kDuplicate].examples.push_back(
          concat(places_[dropped], " (of ", places_[instead], ")"));
    }
    examples_.clear();
    places_.clear();
    first_pass_ = false;
  }

  void finish_deduplication(DuplicateFinder& finder, size_t step, std::unique_ptr<DocumentSpill> spill, uint32_t kept,
                            uint32_t read) {
    const uint32_t documents = spill ? kept : read;
    if (spill) {
      spill_ = std::move(spill);
      first_of_source_ = true;
      dropped_.clear();
    } else {  // what was dropped of a source stays dropped while it is read again
      for (size_t i = 0; i < fresh_.size(); ++i) dropped_[i] = dropped_[i] || fresh_[i];
    }
    Duplicates found = finder.finish(documents, kMaxExamples);
    fresh_ = std::move(found.drop);
    dropped_.resize(fresh_.size());
    examples_ = std::move(found.examples);
    for (const auto& [dropped, instead] : examples_) places_[dropped] = places_[instead] = "";
    deduplication_ = step;
  }

  const CleanConfig& config_;
  const std::vector<std::string> files_;
  const std::function<void(const CleanProgress&)>& progress_;
  std::string directory_;                             // of temporary files
  std::vector<std::unique_ptr<DocumentStep>> steps_;  // null: a deduplication
  CleanReport report_;
  CleanProgress progress_now_;
  bool first_pass_ = true;
  std::optional<DocumentWriter> writer_;
  std::optional<TextFileWriter> rejected_;
  std::unique_ptr<DocumentSpill> spill_;  // what the next pass reads instead of the files
  bool first_of_source_ = true;           // no pass has read it yet
  uint64_t source_documents_ = 0;
  // Of the deduplication that the last pass ended with, and of all earlier ones over the same source.
  size_t deduplication_ = 0;
  std::vector<bool> fresh_, dropped_;
  std::vector<std::pair<uint32_t, uint32_t>> examples_;
  std::unordered_map<uint32_t, std::string> places_;  // of the documents in the examples
};

}  // namespace

const char* step_name(const CleanStep& step) {
  static constexpr const char* kNames[] = {"language", "gopher_quality", "gopher_repetition", "c4",
                                           "redact",   "decontaminate",  "exact_dedup",       "minhash_dedup"};
  static_assert(std::size(kNames) == std::variant_size_v<CleanStep>);
  return kNames[step.index()];
}

CleanReport clean_documents(const CleanConfig& config, const std::function<void(const CleanProgress&)>& progress) {
  return CleanRun(config, progress).run();
}

}  // namespace ondol
