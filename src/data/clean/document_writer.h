// The files that a run writes: lines of JSON or text, compressed when the name says so.
#pragma once

#include <string>
#include <vector>

#include <ondol/base/file.h>
#include <ondol/data/clean.h>

#include "data/clean/document_source.h"

namespace ondol::clean {

/// Text under a name that ends in .gz or not. Compressed text is a series of gzip members of about 1 MiB of text each,
/// made side by side by all threads; gzip and zlib read them as one file.
class TextFileWriter {
 public:
  explicit TextFileWriter(const std::string& path);
  void write(std::string_view text);
  void commit();

 private:
  void compress_blocks(bool all);

  AtomicFile file_;
  bool compressed_;
  std::string pending_;
};

class DocumentWriter {
 public:
  /// Throws UsageError when the name ends in neither .txt nor .jsonl (.gz), or documents could not be told apart in it.
  explicit DocumentWriter(const CleanConfig& config);
  /// `place` names the document in errors.
  void write(const Document& document, const std::string& place);
  void commit() { writer_.commit(); }

 private:
  void write_text(const std::string& text, const std::string& place);

  const CleanConfig& config_;
  bool rows_;
  bool any_ = false;
  TextFileWriter writer_;
};

/// "FILE:LINE".
std::string place_of(const Document& document, const std::vector<std::string>& files);

}  // namespace ondol::clean
