// Normalization forms (UAX #15) over bytes: invalid UTF-8 is copied unchanged and separates what surrounds it.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer/tracked_text.h"

namespace ondol::tokenization {

enum class NormalizationForm { nfc, nfd, nfkc, nfkd };

/// Appends the normalized text to out. A composed character comes from where its first part does.
void normalize_unicode(std::string_view text, NormalizationForm form, TextWriter& out);

/// Appends the full canonical decomposition of one code point.
void decompose_canonically(uint32_t code_point, std::vector<uint32_t>& out);

/// True when the text surely is in the form already (then nothing needs to be copied); false means "perhaps not".
bool is_surely_normalized(std::string_view text, NormalizationForm form);

}  // namespace ondol::tokenization
