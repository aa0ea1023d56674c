// Plain and gzip text, read as a stream.
//
//   TextReader reader("corpus.jsonl.gz");
//   for (std::string line; reader.read_line(line);) …
//
// Gzip is recognised by content, not by name. A truncated or damaged gzip stream is an error, never a short file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ondol {

class TextReader {
 public:
  explicit TextReader(const std::string& path);
  ~TextReader();
  TextReader(const TextReader&) = delete;
  TextReader& operator=(const TextReader&) = delete;

  /// Up to `size` bytes; 0 at the end.
  size_t read(char* data, size_t size);

  /// The next line without its "\n" or "\r\n"; false at the end. Throws when a line is longer than max_bytes.
  bool read_line(std::string& line, size_t max_bytes = size_t{1} << 30);

  /// Lines handed out so far: the number of the last one, counted from 1.
  int64_t line_number() const { return line_number_; }
  const std::string& path() const { return path_; }

 private:
  bool refill();

  std::string path_;
  void* stream_ = nullptr;  // gzFile
  std::vector<char> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  int64_t line_number_ = 0;
};

}  // namespace ondol
