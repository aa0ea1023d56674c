// Sentences of a document.
//
//   for (std::string_view sentence : split_sentences(text, SentenceSplit::punctuation)) ...
//
//   lines        every line that is not blank (the format of BERT's own preparation)
//   punctuation  lines are paragraphs: a sentence ends behind . ! ? … and any quotes or brackets that close there, when
//                white space and anything but a small letter follow; not behind an initial ("J. Smith"), a title or a
//                common abbreviation ("Mr.", "e.g."). Behind 。 ！ ？ no white space is needed. A line ends one in any
//                case.
//
// White space around a sentence is dropped.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ondol {

enum class SentenceSplit { none, lines, punctuation };

/// Views of `text`, in order; none: the whole text.
std::vector<std::string_view> split_sentences(std::string_view text, SentenceSplit split);

/// "none", "lines", "punctuation". Throws UsageError for another name.
SentenceSplit parse_sentence_split(const std::string& name);
std::string to_string(SentenceSplit split);

}  // namespace ondol
