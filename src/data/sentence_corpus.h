// The sentences of a part of several token files, by document.
#pragma once

#include <vector>

#include "data/sample_source.h"

namespace ondol::detail {

class SentenceCorpus {
 public:
  /// The documents that lie whole in the stream. Throws UsageError when a file does not know its sentences. `bos_id` is
  /// the id before each document (-1: none).
  SentenceCorpus(TokenStream stream, int32_t bos_id);

  int64_t documents() const { return static_cast<int64_t>(documents_.size()); }
  int64_t sentences(int64_t document) const { return at(document).last - at(document).first; }
  /// Tokens of sentence `sentence` of a document, without what stands around the document.
  int64_t length(int64_t document, int64_t sentence) const;
  /// Appends the tokens of sentences [first, last) of a document.
  void read(int64_t document, int64_t first, int64_t last, std::vector<int32_t>& ids) const;
  int64_t count_sentences() const { return count_; }

 private:
  struct Document {
    const TokenFile* file;
    int64_t first, last;  // sentences of the file
    int64_t begin, end;   // tokens of the file
  };
  const Document& at(int64_t document) const { return documents_[static_cast<size_t>(document)]; }
  /// First token of a sentence; that of the last one's successor is the end.
  int64_t begin_of(const Document& document, int64_t sentence) const;

  TokenStream stream_;
  std::vector<Document> documents_;
  int64_t count_ = 0;
};

}  // namespace ondol::detail
