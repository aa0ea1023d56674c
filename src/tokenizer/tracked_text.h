// Rewritten text that remembers where its bytes come from, for the offsets of tokens.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/utf8.h"

namespace ondol::tokenization {

/// Bytes [begin, end) of an earlier text.
struct Origin {
  size_t begin, end;
};
/// One for each byte of a text.
using Origins = std::vector<Origin>;

/// Every byte comes from the whole of its character.
inline Origins identity_origins(std::string_view text, size_t offset = 0) {
  Origins origins;
  origins.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const size_t length = decode_code_point(text, i).length;
    origins.insert(origins.end(), length, {offset + i, offset + i + length});
    i += length;
  }
  return origins;
}

/// Appends to a text, and to its origins when they are asked for.
class TextWriter {
 public:
  TextWriter(std::string& text, Origins* origins) : text_(text), origins_(origins) {}

  /// `from` are bytes of the text that is being rewritten.
  void append(std::string_view bytes, Origin from) {
    text_ += bytes;
    if (origins_ != nullptr) origins_->insert(origins_->end(), bytes.size(), from);
  }
  void append(char byte, Origin from) {
    text_ += byte;
    if (origins_ != nullptr) origins_->push_back(from);
  }
  void append_code_point(uint32_t code_point, Origin from) {
    append_utf8(code_point, text_);
    if (origins_ != nullptr) origins_->resize(text_.size(), from);
  }
  /// Copies bytes [begin, end) of `source`, which is what is being rewritten.
  void copy(std::string_view source, size_t begin, size_t end) {
    text_ += source.substr(begin, end - begin);
    if (origins_ == nullptr) return;
    const Origins copied = identity_origins(source.substr(begin, end - begin), begin);
    origins_->insert(origins_->end(), copied.begin(), copied.end());
  }
  bool tracks() const { return origins_ != nullptr; }

 private:
  std::string& text_;  // empty at first, as the origins are
  Origins* origins_;
};

/// Replaces origins in a text by those of that text in an earlier one.
inline void compose_origins(Origins& origins, const Origins& earlier) {
  if (earlier.empty()) return;
  for (Origin& origin : origins) {
    const size_t first = origin.begin < earlier.size() ? origin.begin : earlier.size() - 1;
    const size_t last = origin.end > origin.begin ? origin.end - 1 : first;
    origin = {earlier[first].begin, origin.end > origin.begin ? earlier[last].end : earlier[first].begin};
  }
}

/// The texts that a pre-tokenizer has written on its way, so that a piece of any of them can be traced back.
class OriginStack {
 public:
  /// `text` must live until pop(). Origins are those in the text of the user.
  void push(std::string_view text, Origins origins) { layers_.push_back({text, std::move(origins)}); }
  void pop() { layers_.pop_back(); }

  /// The origins of a part of one of the texts.
  const Origin* of(std::string_view part) const {
    for (auto layer = layers_.rbegin(); layer != layers_.rend(); ++layer) {
      const std::less_equal<const char*> ordered;
      if (ordered(layer->text.data(), part.data()) &&
          ordered(part.data() + part.size(), layer->text.data() + layer->text.size())) {
        return layer->origins.data() + (part.data() - layer->text.data());
      }
    }
    return nullptr;
  }

 private:
  struct Layer {
    std::string_view text;
    Origins origins;
  };
  std::vector<Layer> layers_;
};

}  // namespace ondol::tokenization
