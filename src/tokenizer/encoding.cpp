// Encodings put together: truncation, the template of the post-processor, and the places of tokens in their text.
#include <algorithm>

#include <ondol/base/error.h>

#include "tokenizer/tokenizer_impl.h"
#include "tokenizer/tracked_text.h"
#include "tokenizer/unicode.h"

namespace ondol {

using tokenization::Origin;
using tokenization::Origins;
using tokenization::OriginStack;
using tokenization::TemplateItem;
using tokenization::TokenSink;

namespace {

/// Encodes pieces and notes where in the text of the user they lie.
class TracingSink : public tokenization::PieceSink {
 public:
  TracingSink(const tokenization::Model& model, OriginStack& origins, Encoding& out)
      : PieceSink(&origins), model_(model), out_(out) {}

  void piece(std::string_view text) override {
    ranges_.clear();
    TokenSink sink{out_.ids, &ranges_};
    model_.encode(text, sink);
    const Origin* from = origins()->of(text);
    for (const TokenSink::Range& range : ranges_) {
      // A token of no bytes lies where its piece begins.
      const size_t last = std::min(std::max(range.end, range.begin + 1), text.size()) - 1;
      out_.offsets.push_back({from[std::min(range.begin, last)].begin, from[last].end});
      out_.word_ids.push_back(words_);
    }
    ++words_;
  }

  void added_token(int32_t id, TextRange range) {
    out_.ids.push_back(id);
    out_.offsets.push_back(range);
    out_.word_ids.push_back(words_++);
  }

 private:
  const tokenization::Model& model_;
  Encoding& out_;
  std::vector<TokenSink::Range> ranges_;
  int32_t words_ = 0;
};

/// The spaces that a byte-level token begins and ends with are no part of its place.
void trim_offsets(const Tokenizer::Impl& impl, Encoding& encoding) {
  const auto is_space = [](std::string_view text, size_t at) {
    const uint32_t c = tokenization::decode_code_point(text, at).value;
    return c == 0x120 || tokenization::is_white_space(c);  // U+0120 spells the space
  };
  for (size_t i = 0; i < encoding.ids.size(); ++i) {
    const std::string_view token = impl.token_text(encoding.ids[i]);
    std::vector<bool> spaces;
    for (size_t at = 0; at < token.size(); at += tokenization::decode_code_point(token, at).length) {
      spaces.push_back(is_space(token, at));
    }
    auto leading = static_cast<size_t>(std::find(spaces.begin(), spaces.end(), false) - spaces.begin());
    const auto trailing = static_cast<size_t>(std::find(spaces.rbegin(), spaces.rend(), false) - spaces.rbegin());
    TextRange& range = encoding.offsets[i];
    if (leading > 0 && impl.post_processor.prefix_space && (i == 0 || range.begin == 0)) --leading;
    range.begin = std::min(range.begin + leading, range.end);
    if (trailing > 0 && range.end >= trailing) range.end = std::max(range.end - trailing, range.begin);
  }
}

template <class T>
void keep(std::vector<T>& values, size_t count, bool from_end) {
  if (values.size() <= count) return;
  if (from_end) {
    values.erase(values.begin(), values.end() - static_cast<ptrdiff_t>(count));
  } else {
    values.resize(count);
  }
}

void truncate(Encoding& encoding, size_t count, bool left) {
  keep(encoding.ids, count, left);
  keep(encoding.offsets, count, left);
  keep(encoding.word_ids, count, left);
}

/// Truncates both so that they fit together; as Hugging Face tokenizers share out the room.
void truncate_pair(Encoding& first, Encoding* second, size_t room, const EncodeOptions& options) {
  const size_t n1 = first.ids.size(), n2 = second != nullptr ? second->ids.size() : 0;
  if (n1 + n2 <= room) return;
  const size_t surplus = n1 + n2 - room;
  if (second == nullptr && options.truncation != TruncationStrategy::only_second) {
    return truncate(first, room, options.truncate_left);
  }
  if (options.truncation != TruncationStrategy::longest_first) {
    Encoding* target = options.truncation == TruncationStrategy::only_first ? &first : second;
    if (target == nullptr || target->ids.size() <= surplus) {
      throw UsageError(concat("cannot truncate to ", options.max_length, " tokens: the text to shorten has ",
                              target == nullptr ? 0 : target->ids.size(), " tokens, ", surplus, " are too many"));
    }
    return truncate(*target, target->ids.size() - surplus, options.truncate_left);
  }
  size_t shorter = std::min(n1, n2);
  size_t longer = shorter > room ? shorter : std::max(shorter, room - shorter);
  if (shorter + longer > room) {
    shorter = room / 2;
    longer = shorter + room % 2;
  }
  truncate(first, n1 > n2 ? longer : shorter, options.truncate_left);
  truncate(*second, n1 > n2 ? shorter : longer, options.truncate_left);
}

}  // namespace

void Tokenizer::Impl::trace_text(std::string_view text, bool parse_special, Encoding& out) const {
  OriginStack stack;
  TracingSink sink(*model, stack, out);
  tokenization::NormalizerBuffers buffers;
  buffers.track = true;
  const auto& raw = parse_special ? raw_matcher : raw_plain_matcher;
  const auto& after_normalization = parse_special ? normalized_matcher : normalized_plain_matcher;
  const auto normalize = [&](std::string_view part) {
    const auto begin = static_cast<size_t>(part.data() - text.data());
    std::string_view normalized = part;
    Origins origins;
    if (normalizer) {
      normalized = normalizer->normalize(part, buffers);
      origins = buffers.origins;
      for (Origin& origin : origins) origin = {origin.begin + begin, origin.end + begin};
    } else {
      origins = tokenization::identity_origins(part, begin);
    }
    if (normalized.empty()) return;
    stack.push(normalized, std::move(origins));
    const auto plain = [&](std::string_view piece) {
      pre_tokenizer->split(piece, begin == 0 && piece.data() == normalized.data(), sink);
    };
    after_normalization.split(normalized, plain, [&](int32_t id, std::string_view token) {
      const Origin* from = stack.of(token);
      sink.added_token(id, {from[0].begin, from[token.size() - 1].end});
    });
    stack.pop();
  };
  raw.split(text, normalize, [&](int32_t id, std::string_view token) {
    const auto begin = static_cast<size_t>(token.data() - text.data());
    sink.added_token(id, {begin, begin + token.size()});
  });
}

Encoding Tokenizer::Impl::encode_sequences(std::string_view text, const std::string_view* pair,
                                           const EncodeOptions& options, bool detailed) const {
  static const tokenization::PostProcessor kPlain;
  const tokenization::PostProcessor& processor = options.add_special_tokens ? post_processor : kPlain;
  const std::vector<TemplateItem>& items = pair != nullptr ? processor.pair : processor.single;
  Encoding sequences[2];
  const auto fill = [&](std::string_view source, Encoding& target) {
    if (!detailed) return encode_text(source, options.parse_special, target.ids);
    trace_text(source, options.parse_special, target);
    if (post_processor.trim_offsets) trim_offsets(*this, target);
  };
  fill(text, sequences[0]);
  if (pair != nullptr) fill(*pair, sequences[1]);
  if (options.max_length > 0) {
    size_t reserved = 0;
    for (const TemplateItem& item : items) reserved += item.ids.size();
    if (static_cast<size_t>(options.max_length) < reserved) {
      throw UsageError(concat("max_length ", options.max_length, " leaves no room for the ", reserved,
                              " special tokens of the template"));
    }
    truncate_pair(sequences[0], pair != nullptr ? &sequences[1] : nullptr,
                  static_cast<size_t>(options.max_length) - reserved, options);
  }
  Encoding result;
  for (const TemplateItem& item : items) {
    const bool added = item.kind == TemplateItem::Kind::ids;
    const int32_t index = item.kind == TemplateItem::Kind::sequence_b ? 1 : 0;
    const Encoding& source = sequences[index];
    const std::vector<int32_t>& ids = added ? item.ids : source.ids;
    result.ids.insert(result.ids.end(), ids.begin(), ids.end());
    result.type_ids.resize(result.ids.size(), item.type_id);
    if (!detailed) continue;
    if (!added) {
      result.offsets.insert(result.offsets.end(), source.offsets.begin(), source.offsets.end());
      result.word_ids.insert(result.word_ids.end(), source.word_ids.begin(), source.word_ids.end());
    }
    result.offsets.resize(result.ids.size());
    result.word_ids.resize(result.ids.size(), -1);
    result.special_mask.resize(result.ids.size(), added ? 1 : 0);
    result.sequence_ids.resize(result.ids.size(), added ? -1 : index);
  }
  return result;
}

Encoding Tokenizer::encode_pair(std::string_view text, std::string_view pair, EncodeOptions options) const {
  return impl_->encode_sequences(text, &pair, options, false);
}

Encoding Tokenizer::encode_detailed(std::string_view text, EncodeOptions options) const {
  return impl_->encode_sequences(text, nullptr, options, true);
}

Encoding Tokenizer::encode_detailed(std::string_view text, std::string_view pair, EncodeOptions options) const {
  return impl_->encode_sequences(text, &pair, options, true);
}

}  // namespace ondol
