// The text of one sequence as it grows: whole characters only, ended by stop strings.
#pragma once

#include <span>
#include <string>
#include <vector>

#include <ondol/tokenizer/tokenizer.h>

namespace ondol {

class TextStream {
 public:
  /// The prompt settles how the first new token is spelled (with or without a leading space).
  TextStream(const Tokenizer& tokenizer, std::span<const int32_t> prompt, std::vector<std::string> stop);

  /// Text that became certain with this token: what may be the beginning of a stop string is held back. Ids beyond the
  /// tokenizer's (embeddings are often padded) have no text.
  std::string push(int32_t id);
  /// What is left at the end of the sequence.
  std::string finish();
  /// A stop string has been found; the text ends before it.
  bool stopped() const { return stopped_; }
  const std::string& text() const { return text_; }

 private:
  std::string take(std::string piece, bool last);

  int64_t vocab_size_;
  StreamDecoder decoder_;
  std::vector<std::string> stop_;
  std::string held_;
  std::string text_;
  bool stopped_ = false;
};

}  // namespace ondol
