// What objectives that change tokens need to know of a vocabulary.
//
//   const Vocabulary vocabulary = make_vocabulary(tokenizer);
//   if (!vocabulary.is_special(id)) ...
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <ondol/tokenizer/tokenizer.h>

namespace ondol {

struct Vocabulary {
  std::optional<int32_t> mask_id, eos_id, pad_id;
  /// What the tokenizer itself puts before and behind a text: <s> and </s>, [CLS] and [SEP].
  std::optional<int32_t> frame_begin, frame_end;
  /// For each id: a special token, a sentinel or a hole; neither chosen for a change nor drawn as a replacement.
  std::vector<bool> special;
  /// For each id: goes on with the word of the token before it ("##ing"; no "Ġ" or "▁" in front where others have it).
  std::vector<bool> continues_word;
  /// For each id: a sentence ends with it: a line break, or one of . ! ? … with nothing but quotes or brackets behind.
  std::vector<bool> ends_sentence;
  /// The ids that are not special, ascending.
  std::vector<int32_t> regular;
  /// "<extra_id_0>", "<extra_id_1>", ... up to the first one that is missing (T5).
  std::vector<int32_t> sentinels;

  /// Ids beyond the tokenizer's (rows of the model that nothing uses) are special.
  bool is_special(int32_t id) const {
    return id < 0 || id >= static_cast<int64_t>(special.size()) || special[static_cast<size_t>(id)];
  }
  bool goes_on(int32_t id) const {
    return id >= 0 && id < static_cast<int64_t>(continues_word.size()) && continues_word[static_cast<size_t>(id)];
  }
  bool ends_a_sentence(int32_t id) const {
    return id >= 0 && id < static_cast<int64_t>(ends_sentence.size()) && ends_sentence[static_cast<size_t>(id)];
  }
};

Vocabulary make_vocabulary(const Tokenizer& tokenizer);

/// The tokens that the post-processor of a tokenizer puts around a text, one at most on either side.
struct TextFrame {
  std::optional<int32_t> begin, end;
};
TextFrame text_frame(const Tokenizer& tokenizer);

}  // namespace ondol
