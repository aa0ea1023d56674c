// Pre-tokenizers: split a text into the pieces that the model encodes one by one.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "tokenizer/json_access.h"
#include "tokenizer/piece_sink.h"

namespace ondol::tokenization {

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  /// Sends the pieces of the (not empty) text to the sink; `first` says that what the user gave begins here. Safe to
  /// call from several threads.
  virtual void split(std::string_view text, bool first, PieceSink& sink) const = 0;
  /// What cutting a text behind the newline of "x\ny" (x, y visible ASCII) does to the pieces; see cuts_at_newline.
  enum class Cut { moves_pieces, neutral, always_there };
  virtual Cut cut_at_newline() const { return Cut::moves_pieces; }
  /// True when a piece always ends there, so that a large text can be cut and its parts split independently.
  bool cuts_at_newline() const { return cut_at_newline() == Cut::always_there; }
};

/// From the "pre_tokenizer" part of tokenizer.json; `file` is named in errors. Null gives the whole text as one piece.
/// With `raw_bytes` a ByteLevel stage at the end leaves the bytes as they are, for models that take bytes; otherwise it
/// spells them in the byte alphabet. Throws UsageError for a type that is not supported.
std::unique_ptr<PreTokenizer> make_pre_tokenizer(const Json& spec, const std::string& file, bool raw_bytes);
/// Whether a ByteLevel stage ends the specification.
bool ends_in_byte_level(const Json& spec);

/// Makers of components; nullptr for a type that is not theirs.
std::unique_ptr<PreTokenizer> make_splitter(const std::string& type, const Json& spec, const std::string& where);

}  // namespace ondol::tokenization
