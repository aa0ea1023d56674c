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
  /// For each id: a special token, a sentinel or a hole; neither chosen for a change nor drawn as a replacement.
  std::vector<bool> special;
  /// For each id: goes on with the word of the token before it ("##ing"; no "Ġ" or "▁" in front where others have it).
  std::vector<bool> continues_word;
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
};

Vocabulary make_vocabulary(const Tokenizer& tokenizer);

}  // namespace ondol
