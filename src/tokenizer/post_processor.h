// Post-processors: the special tokens around one or two sequences, all of them as templates.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tokenizer/json_access.h"

namespace ondol::tokenization {

/// One element of a template: the tokens of sequence A or B, or fixed ids.
struct TemplateItem {
  enum class Kind : uint8_t { sequence_a, sequence_b, ids } kind;
  int32_t type_id = 0;
  std::vector<int32_t> ids;
};

struct PostProcessor {
  std::vector<TemplateItem> single{{TemplateItem::Kind::sequence_a, 0, {}}};
  std::vector<TemplateItem> pair{{TemplateItem::Kind::sequence_a, 0, {}}, {TemplateItem::Kind::sequence_b, 1, {}}};
  bool trim_offsets = false;  // spaces around byte-level tokens are no part of their offsets
  bool prefix_space = false;  // but one that was put before the text
};

/// From the "post_processor" part of tokenizer.json: TemplateProcessing, RobertaProcessing, BertProcessing, ByteLevel
/// (which adds no tokens) and Sequence of them. Ids must be below vocab_size. Throws UsageError for anything else.
PostProcessor make_post_processor(const Json& spec, int64_t vocab_size, const std::string& file);

}  // namespace ondol::tokenization
