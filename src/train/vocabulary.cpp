#include <ondol/train/vocabulary.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

namespace ondol {

namespace {

/// How a vocabulary tells the beginning of a word from its rest.
struct WordMark {
  std::string_view text;
  bool begins_word;  // else it stands before what goes on with a word
};

constexpr std::array<WordMark, 3> kMarks = {WordMark{"##", false}, WordMark{"\u2581", true}, WordMark{"\u0120", true}};

/// The mark that most tokens have; none when hardly one has any, so that each token is a word.
const WordMark* find_mark(const Tokenizer& tokenizer) {
  std::array<int64_t, kMarks.size()> counts{};
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string token = tokenizer.id_to_token(id);
    for (size_t i = 0; i < kMarks.size(); ++i) counts[i] += token.starts_with(kMarks[i].text);
  }
  size_t best = 0;
  for (size_t i = 1; i < kMarks.size(); ++i) best = counts[i] > counts[best] ? i : best;
  return counts[best] * 100 < tokenizer.vocab_size() ? nullptr : &kMarks[best];
}

/// Whether a sentence ends with a token of this text.
bool is_sentence_end(std::string_view text) {
  constexpr std::string_view kEnds[] = {".", "!", "?", "\u3002", "\uFF01", "\uFF1F", "\u2026"};
  constexpr std::string_view kClosing[] = {"\"", "'", ")", "]", "\u201D", "\u2019", "\u300D", "\u300F"};
  if (text.find('\n') != std::string_view::npos) return true;
  const auto ends_in = [&text](std::string_view mark) { return text.ends_with(mark); };
  for (;;) {
    if (std::any_of(std::begin(kEnds), std::end(kEnds), ends_in)) return true;
    const auto closing = std::find_if(std::begin(kClosing), std::end(kClosing), ends_in);
    if (closing == std::end(kClosing)) return false;
    text.remove_suffix(closing->size());
  }
}

}  // namespace

TextFrame text_frame(const Tokenizer& tokenizer) {
  constexpr EncodeOptions kPlain{.add_special_tokens = false, .parse_special = false};
  const std::vector<int32_t> plain = tokenizer.encode("a", kPlain), framed = tokenizer.encode("a");
  const auto text = std::search(framed.begin(), framed.end(), plain.begin(), plain.end());
  TextFrame frame;
  if (text - framed.begin() == 1) frame.begin = framed.front();
  if (framed.end() - text == static_cast<ptrdiff_t>(plain.size()) + 1) frame.end = framed.back();
  return frame;
}

Vocabulary make_vocabulary(const Tokenizer& tokenizer) {
  Vocabulary out;
  out.mask_id = tokenizer.special_token_id("mask");
  for (const char* mask : {"[MASK]", "<mask>"}) {  // files without roles: BERT's and RoBERTa's names
    if (!out.mask_id) out.mask_id = tokenizer.token_to_id(mask);
  }
  out.eos_id = tokenizer.special_token_id("eos");
  out.pad_id = tokenizer.special_token_id("pad");
  const TextFrame frame = text_frame(tokenizer);
  out.frame_begin = frame.begin;
  out.frame_end = frame.end;
  for (int number = 0;; ++number) {
    const auto id = tokenizer.token_to_id("<extra_id_" + std::to_string(number) + ">");
    if (!id) break;
    out.sentinels.push_back(*id);
  }
  const auto size = static_cast<size_t>(tokenizer.vocab_size());
  out.special.resize(size);
  out.continues_word.resize(size);
  out.ends_sentence.resize(size);
  const WordMark* const mark = find_mark(tokenizer);
  for (size_t i = 0; i < size; ++i) {
    const std::string token = tokenizer.id_to_token(static_cast<int32_t>(i));
    out.special[i] = token.empty() || tokenizer.is_special(static_cast<int32_t>(i));
    out.continues_word[i] = mark != nullptr && token.starts_with(mark->text) != mark->begins_word;
    const std::vector<int32_t> ids = {static_cast<int32_t>(i)};
    out.ends_sentence[i] = is_sentence_end(tokenizer.decode(ids, /*skip_special_tokens=*/true));
  }
  for (const int32_t id : out.sentinels) out.special[static_cast<size_t>(id)] = true;
  for (size_t i = 0; i < size; ++i) {
    if (!out.special[i]) out.regular.push_back(static_cast<int32_t>(i));
  }
  return out;
}

}  // namespace ondol
