#include "tokenizer/piece_encoder.h"

namespace ondol::tokenization {

void PieceEncoder::encode(std::string_view text) {
  TokenSink sink{*ids_};
  if (text.size() > PieceCache::kMaxLength) return model_.encode(text, sink);
  const PieceCache::Key key(text);
  if (cache_.append(key, *ids_)) return;
  const size_t before = ids_->size();
  model_.encode(text, sink);
  cache_.store(key, {ids_->data() + before, ids_->size() - before});
}

void PieceEncoder::encode_words(std::string_view text) {
  size_t begin = 0;
  for (size_t at = text.find(marker_); at != text.npos; at = text.find(marker_, at)) {
    if (at > begin) encode(text.substr(begin, at - begin));
    begin = at;
    while (text.substr(at).starts_with(marker_)) at += marker_.size();
  }
  encode(text.substr(begin));
}

}  // namespace ondol::tokenization
