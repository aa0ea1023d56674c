// Canonical normalization forms (UAX #15) over bytes: invalid UTF-8 is copied unchanged and separates what surrounds
// it.
#pragma once

#include <string>
#include <string_view>

namespace ondol::tokenization {

enum class NormalizationForm { nfc, nfd };

/// Appends the normalized text to out.
void normalize_unicode(std::string_view text, NormalizationForm form, std::string& out);

/// True when the text surely is in the form already (then nothing needs to be copied); false means "perhaps not".
bool is_surely_normalized(std::string_view text, NormalizationForm form);

}  // namespace ondol::tokenization
