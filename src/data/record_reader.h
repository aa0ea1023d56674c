// Structured examples from files, one after the other.
//
//   RecordReader reader({.path = "train.tsv"}, {.columns = {"sentence", "label"}});
//   for (Record record; reader.next(record);) ...
//
// By the end of the name (before ".gz"), or by `format`:
//   .jsonl          an object a line
//   .json           an array of objects; documents of another form go through RecordSettings::expand
//   .csv, .tsv      tables (delimited.h); the first row names the columns unless RecordSettings::columns does
//   .conll, .bio    a word and its tag a line, empty lines between sentences: {"words": [...], "tags": [...]}. Columns
//   are
//                   separated by tabs where a line has one, else by spaces; the first is the word, the last the tag.
//                   Lines that begin with "-DOCSTART-" and comments ("# ..." with more than one word behind) are
//                   skipped
//   target_path     two files of as many lines: {"source": ..., "target": ...}
// Empty lines are skipped, but for those of parallel files.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/record.h"

namespace ondol {

struct RecordFile {
  std::string path;
  std::string target_path = {};
  std::string format = {};  // "jsonl", "json", "csv", "tsv", "conll"; "": by name
};

struct RecordSettings {
  FieldMap fields = {};
  std::vector<std::string> columns = {};
  /// The records of a JSON document that is no array of objects; empty: an error.
  std::function<std::vector<Json>(const Json& document, const std::string& file)> expand = {};
};

/// The format of a file, "parallel" with a target. Throws UsageError naming the known ones.
std::string record_format(const RecordFile& file);

class RecordReader {
 public:
  RecordReader(const RecordFile& file, const RecordSettings& settings);
  ~RecordReader();

  /// False at the end. Throws Error naming file and line.
  bool next(Record& record);

  /// Reads one form of file.
  class Form {
   public:
    virtual ~Form() = default;
    /// The next object and its line or number; false at the end.
    virtual bool next(Json& value, int64_t& number) = 0;
    virtual bool counts_lines() const { return true; }
  };

 private:
  std::shared_ptr<const std::string> file_;
  std::shared_ptr<const FieldMap> fields_;
  std::unique_ptr<Form> form_;
  bool checks_text_;  // JSON is known to be UTF-8
};

}  // namespace ondol
