// Documents in order, from the files of a corpus or from what an earlier pass has left.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ondol/data/clean.h>
#include <ondol/data/documents.h>

#include "data/clean/temporary_file.h"

namespace ondol::clean {

struct Document {
  uint32_t file = 0;
  int64_t line = 0;
  std::string row;  // of a .jsonl file: the whole line as it was
  std::string text;
  bool changed = false;  // the text is not that of the row any more
};

class DocumentSource {
 public:
  virtual ~DocumentSource() = default;
  virtual bool next(Document& document) = 0;
};

/// The corpus.
class FileSource : public DocumentSource {
 public:
  FileSource(const std::vector<std::string>& files, const CleanConfig& config);
  bool next(Document& document) override;

 private:
  const std::vector<std::string>& files_;
  DocumentOptions options_;
  std::optional<DocumentReader> reader_;
  size_t opened_ = 0;  // files
};

/// Documents on their way from one pass to the next.
class DocumentSpill {
 public:
  explicit DocumentSpill(const std::string& directory) : file_(directory) {}
  void append(const Document& document);
  TemporaryFile& file() { return file_; }

 private:
  TemporaryFile file_;
};

class SpillSource : public DocumentSource {
 public:
  explicit SpillSource(DocumentSpill& spill) : file_(spill.file()) {}
  bool next(Document& document) override;

 private:
  void read(void* data, size_t size);

  TemporaryFile& file_;
  uint64_t position_ = 0;  // of buffer_ in the file
  std::vector<char> buffer_;
  size_t used_ = 0;  // bytes of buffer_
};

/// Documents with their numbers in the source.
struct DocumentBatch {
  std::vector<Document> documents;
  std::vector<uint32_t> ordinals;
  uint64_t read = 0;  // documents of the source so far, skipped ones too
};

/// Reads batches ahead on a thread of its own.
class BatchReader {
 public:
  explicit BatchReader(std::unique_ptr<DocumentSource> source);
  ~BatchReader();
  /// False when there are none left. Errors of the source are thrown here.
  bool next(DocumentBatch& batch);

 private:
  DocumentBatch read();

  struct Ahead;
  std::unique_ptr<DocumentSource> source_;
  std::unique_ptr<Ahead> ahead_;
  uint64_t read_ = 0;
};

}  // namespace ondol::clean
