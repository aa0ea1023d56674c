// The documents, or parts of documents, that the rows of a batch hold.
#pragma once

#include <vector>

#include <ondol/train/objective.h>

namespace ondol {

/// Tokens [begin, end) of the flat (B T) tokens, all of one row.
struct DocumentPart {
  int64_t begin, end;
  int64_t length() const { return end - begin; }
};

/// In order, without padding. Documents are told apart by document_ids where there are any, else by the end token
/// behind each (a null vocabulary: a row is one).
std::vector<DocumentPart> document_parts(const Batch& batch, const Vocabulary* vocabulary);

/// labels of a batch: the next token of the same document, kIgnoreIndex behind its last one.
Tensor next_tokens(const Batch& batch);

}  // namespace ondol
