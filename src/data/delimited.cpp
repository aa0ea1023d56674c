#include "data/delimited.h"

#include <algorithm>

#include <ondol/base/error.h>

namespace ondol {

namespace {
constexpr size_t kReadBytes = size_t{1} << 16;
constexpr size_t kLongestField = size_t{1} << 28;
}  // namespace

void DelimitedReader::fail(const std::string& why, int64_t line) const {
  throw Error(concat("cannot read table: ", why, " (", reader_.path(), ":", line, ")"),
              format_.quotes ? "fields with quotes are quoted themselves, and quotes in them doubled (RFC 4180)" : "");
}

int DelimitedReader::peek() {
  if (begin_ == end_) {
    buffer_.resize(kReadBytes);
    begin_ = 0;
    end_ = reader_.read(buffer_.data(), buffer_.size());
    if (end_ == 0) return kEnd;
  }
  return static_cast<unsigned char>(buffer_[begin_]);
}

int DelimitedReader::take() {
  const int c = peek();
  if (c == kEnd) return c;
  ++begin_;
  if (c == '\n') ++line_;
  return c;
}

bool DelimitedReader::at_line_end() { return peek() == kEnd || peek() == '\n'; }

std::string DelimitedReader::quoted_field() {
  const int64_t opened = line_;
  std::string field;
  take();
  for (;;) {
    const int c = take();
    if (c == kEnd || field.size() > kLongestField) fail("a quote is opened here and never closed", opened);
    if (c == '"') {
      if (peek() != '"') break;
      take();
    }
    field += static_cast<char>(c);
  }
  if (peek() == '\r') {
    take();
    if (!at_line_end()) fail("text behind a closing quote", line_);
  }
  if (!at_line_end() && peek() != format_.separator) fail("text behind a closing quote", line_);
  return field;
}

std::string DelimitedReader::plain_field() {
  std::string field;
  while (!at_line_end() && peek() != format_.separator) {
    const int c = take();
    if (c == '"' && format_.quotes) fail("a quote inside a field that is not quoted", line_);
    field += static_cast<char>(c);
    if (field.size() > kLongestField) fail("a field of more than 256 MiB", row_line_);
  }
  if (at_line_end() && field.ends_with('\r')) field.pop_back();
  return field;
}

bool DelimitedReader::next(std::vector<std::string>& fields) {
  if (!started_) {
    started_ = true;
    for (const int c : {0xef, 0xbb, 0xbf}) {  // a file that begins with half a mark has lost nothing but it
      if (peek() != c) break;
      take();
    }
  }
  for (;;) {
    if (peek() == kEnd) return false;
    fields.clear();
    row_line_ = line_;
    bool quoted = false;
    for (;;) {
      const bool opens = format_.quotes && peek() == '"';
      quoted = quoted || opens;
      fields.push_back(opens ? quoted_field() : plain_field());
      if (at_line_end()) break;
      take();
    }
    take();
    if (fields.size() > 1 || quoted || !fields.front().empty()) return true;
  }
}

}  // namespace ondol
