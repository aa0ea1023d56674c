#include "generate/text_stream.h"

#include <algorithm>

namespace ondol {

namespace {

/// Length of the longest end of `text` that begins `stop` without being all of it.
size_t partial_match(const std::string& text, const std::string& stop) {
  for (size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length) {
    if (text.compare(text.size() - length, length, stop, 0, length) == 0) return length;
  }
  return 0;
}

}  // namespace

TextStream::TextStream(const Tokenizer& tokenizer, std::span<const int32_t> prompt, std::vector<std::string> stop)
    : vocab_size_(tokenizer.vocab_size()), decoder_(tokenizer, /*skip_special_tokens=*/true), stop_(std::move(stop)) {
  for (const int32_t id : prompt) {
    if (id < vocab_size_) decoder_.push(id);
  }
}

std::string TextStream::push(int32_t id) { return id < vocab_size_ ? take(decoder_.push(id), false) : ""; }
std::string TextStream::finish() { return take(decoder_.flush(), true); }

std::string TextStream::take(std::string piece, bool last) {
  if (stopped_) return "";
  held_ += piece;
  size_t end = held_.size(), keep = 0;
  for (const std::string& stop : stop_) {
    const size_t found = held_.find(stop);
    if (found != std::string::npos) {
      stopped_ = true;
      end = std::min(end, found);
    } else if (!last) {
      keep = std::max(keep, partial_match(held_, stop));
    }
  }
  if (!stopped_) end -= keep;
  std::string out = held_.substr(0, end);
  held_.erase(0, end);
  text_ += out;
  return out;
}

}  // namespace ondol
