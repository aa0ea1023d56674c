#include <ondol/train/vocabulary.h>

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

}  // namespace

Vocabulary make_vocabulary(const Tokenizer& tokenizer) {
  Vocabulary out;
  out.mask_id = tokenizer.special_token_id("mask");
  if (!out.mask_id) out.mask_id = tokenizer.token_to_id("[MASK]");
  out.eos_id = tokenizer.special_token_id("eos");
  out.pad_id = tokenizer.special_token_id("pad");
  for (int number = 0;; ++number) {
    const auto id = tokenizer.token_to_id("<extra_id_" + std::to_string(number) + ">");
    if (!id) break;
    out.sentinels.push_back(*id);
  }
  const auto size = static_cast<size_t>(tokenizer.vocab_size());
  out.special.resize(size);
  out.continues_word.resize(size);
  const WordMark* const mark = find_mark(tokenizer);
  for (size_t i = 0; i < size; ++i) {
    const std::string token = tokenizer.id_to_token(static_cast<int32_t>(i));
    out.special[i] = token.empty() || tokenizer.is_special(static_cast<int32_t>(i));
    out.continues_word[i] = mark != nullptr && token.starts_with(mark->text) != mark->begins_word;
  }
  for (const int32_t id : out.sentinels) out.special[static_cast<size_t>(id)] = true;
  for (size_t i = 0; i < size; ++i) {
    if (!out.special[i]) out.regular.push_back(static_cast<int32_t>(i));
  }
  return out;
}

}  // namespace ondol
