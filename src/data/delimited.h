// Rows of .csv and .tsv files.
//
//   DelimitedReader rows("train.csv", DelimitedReader::kCsv);
//   for (std::vector<std::string> fields; rows.next(fields);) ...         // rows.line_number(): where the row begins
//
// CSV as RFC 4180 has it: fields between commas; a field in double quotes may hold commas, line breaks and doubled
// quotes. A quote inside a field that is not quoted, text behind a closing quote and a quote that is never closed are
// errors. TSV has no quotes: fields are what stands between tabs. Rows end with "\n" or "\r\n"; empty lines and a byte
// order mark are skipped.
#pragma once

#include <string>
#include <vector>

#include <ondol/base/text_reader.h>

namespace ondol {

class DelimitedReader {
 public:
  struct Format {
    char separator;
    bool quotes;
  };
  static constexpr Format kCsv{',', true}, kTsv{'\t', false};

  DelimitedReader(const std::string& path, Format format) : reader_(path), format_(format) {}

  /// False at the end of the file. Throws Error naming file and line.
  bool next(std::vector<std::string>& fields);
  /// Of the first line of the last row, counted from 1.
  int64_t line_number() const { return row_line_; }

 private:
  static constexpr int kEnd = -1;
  int peek();
  int take();
  bool at_line_end();
  std::string quoted_field();
  std::string plain_field();
  [[noreturn]] void fail(const std::string& why, int64_t line) const;

  TextReader reader_;
  Format format_;
  std::vector<char> buffer_;
  size_t begin_ = 0, end_ = 0;
  bool started_ = false;
  int64_t line_ = 1, row_line_ = 0;
};

}  // namespace ondol
