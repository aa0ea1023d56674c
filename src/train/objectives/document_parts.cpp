#include "train/objectives/document_parts.h"

namespace ondol {

namespace {

/// What tells the tokens of a batch apart; empty where a tensor is not there.
struct TokenMarks {
  explicit TokenMarks(const Batch& batch) : ids(batch.input_ids.to_vector<int32_t>()), length(batch.input_ids.size(1)) {
    if (batch.attention_mask.defined()) visible = batch.attention_mask.to_vector<uint8_t>();
    if (batch.document_ids.defined()) documents = batch.document_ids.to_vector<int32_t>();
  }
  bool counts(size_t i) const {
    return (visible.empty() || visible[i] != 0) && (documents.empty() || documents[i] >= 0);
  }
  /// Whether token i + 1 belongs to the row and document of token i.
  bool goes_on(size_t i) const {
    return (static_cast<int64_t>(i) + 1) % length != 0 && counts(i + 1) &&
           (documents.empty() || documents[i] == documents[i + 1]);
  }

  std::vector<int32_t> ids, documents;
  std::vector<uint8_t> visible;
  int64_t length;
};

}  // namespace

std::vector<DocumentPart> document_parts(const Batch& batch, const Vocabulary* vocabulary) {
  const TokenMarks marks(batch);
  const int32_t end = vocabulary != nullptr ? vocabulary->eos_id.value_or(-1) : -1;
  std::vector<DocumentPart> parts;
  bool open = false;
  for (size_t i = 0; i < marks.ids.size(); ++i) {
    if (!marks.counts(i)) continue;
    const auto at = static_cast<int64_t>(i);
    if (!open) parts.push_back({at, at});
    parts.back().end = at + 1;
    const bool ends = marks.documents.empty() && marks.ids[i] == end;
    open = marks.goes_on(i) && !ends;
  }
  return parts;
}

Tensor next_tokens(const Batch& batch) {
  const TokenMarks marks(batch);
  std::vector<int32_t> labels(marks.ids.size(), kIgnoreIndex);
  for (size_t i = 0; i < labels.size(); ++i) {
    if (marks.counts(i) && marks.goes_on(i)) labels[i] = marks.ids[i + 1];
  }
  return Tensor::from_vector(labels, batch.input_ids.shape());
}

}  // namespace ondol
