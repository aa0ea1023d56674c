// Text documents from files.
//
//   for (const std::string& path : expand_path("corpus/*.jsonl.gz")) {
//     DocumentReader reader(path, {.separator = "blank_line"});
//     for (DocumentPiece piece; reader.next(piece);) …
//   }
//
// Files: `.txt` and `.jsonl` (one object with a `text` field a line), each plain or `.gz`.
// Documents of a text file are separated as DocumentOptions::separator says:
//   "file"        the whole file is one document (default)
//   "line"        every line
//   "blank_line"  runs of lines without an empty one between them
//   other text    that text itself, as "<|endoftext|>"; line breaks next to it are dropped
// Empty documents are skipped, and so is a byte order mark. Errors name file and line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ondol/base/text_reader.h>
#include <ondol/data/sentences.h>

namespace ondol {

struct DocumentOptions {
  std::string separator = "file";
  std::string text_field = "text";
  /// A document of a "file" longer than this comes in pieces, cut between two lines that are not empty.
  size_t piece_bytes = size_t{1} << 30;
  /// For prepare_tokens: whether the index says where sentences begin (sentences.h).
  SentenceSplit sentences = SentenceSplit::none;
};

struct DocumentPiece {
  std::string text;
  bool first = true;
  bool last = true;
};

class DocumentReader {
 public:
  /// Throws UsageError when the name is neither .txt nor .jsonl (.gz).
  DocumentReader(const std::string& path, const DocumentOptions& options);
  /// False at the end of the file.
  bool next(DocumentPiece& piece);

  /// The line, counted from 1, on which the last document (not piece) began.
  int64_t line_number() const { return line_number_; }
  /// The whole line that the last document of a .jsonl file came from; empty for other files.
  const std::string& row() const { return row_; }

 private:
  bool next_of_file(DocumentPiece& piece);
  bool next_of_lines(DocumentPiece& piece);
  bool next_of_paragraphs(DocumentPiece& piece);
  bool next_of_separated(DocumentPiece& piece);
  bool next_of_json(DocumentPiece& piece);
  bool fill(size_t bytes);
  void drop_byte_order_mark(std::string& text) const;

  TextReader reader_;
  DocumentOptions options_;
  bool json_;
  std::string pending_;    // read but not yet handed out
  size_t searched_ = 0;    // bytes of pending_ known to hold no separator
  bool started_ = false;   // a piece of the present document was handed out
  bool finished_ = false;  // the file has no more bytes
  int64_t line_number_ = 0;
  int64_t lines_passed_ = 0;  // line breaks in front of pending_, where a text separates documents
  std::string row_;
};

/// The files that a path with `*`, `?` or `[…]` stands for, sorted; a plain path stands for itself. Throws UsageError
/// when there is none.
std::vector<std::string> expand_path(const std::string& path);

/// 64 bits that change when the content of the file does, whatever its times. Every byte counts up to 1 GiB; of larger
/// files the size, both ends and evenly spaced blocks do.
uint64_t file_fingerprint(const std::string& path);

/// Mixes a value into a fingerprint (FNV-1a over its bytes).
uint64_t mix_fingerprint(uint64_t fingerprint, uint64_t value);
uint64_t mix_fingerprint(uint64_t fingerprint, const std::string& text);

}  // namespace ondol
