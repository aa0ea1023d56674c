// What the "model" parts of both kinds of BPE in a tokenizer.json have in common.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tokenizer/byte_level_bpe.h"
#include "tokenizer/json_access.h"
#include "tokenizer/string_table.h"

namespace ondol::tokenization {

/// The merges with the ids of their halves; the rank is the place in the list. Throws UsageError for halves that are
/// not in the vocabulary, and for dropout, which is not supported; `where` ends the message.
std::vector<BpeMerge> numbered_merges(const Json& spec, const StringTable& vocabulary,
                                      const std::vector<std::pair<std::string, std::string>>& merges,
                                      const std::string& where);

}  // namespace ondol::tokenization
