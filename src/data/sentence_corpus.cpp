#include "data/sentence_corpus.h"

#include <ondol/base/error.h>

namespace ondol::detail {

SentenceCorpus::SentenceCorpus(TokenStream stream, int32_t bos_id) : stream_(std::move(stream)) {
  for (const TokenStream::FilePart& part : stream_.parts()) {
    const TokenFile& file = *part.file;
    if (file.sentences() == 0 && file.tokens() > 0) {
      throw UsageError(concat("the sentences of the documents are not known (", file.prefix(), ".idx)"),
                       "prepare the files again with --sentences lines or punctuation");
    }
    for (int64_t d = 0; d < file.documents(); ++d) {
      Document document{&file, file.first_sentence(d), file.first_sentence(d + 1), file.document_begin(d),
                        file.document_begin(d + 1)};
      if (document.begin < part.begin || document.end > part.end || document.begin == document.end) continue;
      int32_t first = -1, last = -1;
      file.read(document.begin, 1, &first);
      file.read(document.end - 1, 1, &last);
      if (bos_id >= 0 && first == bos_id) ++document.begin;
      if (file.eos_id() >= 0 && last == file.eos_id() && document.end > document.begin) --document.end;
      documents_.push_back(document);
      count_ += document.last - document.first;
    }
  }
}

int64_t SentenceCorpus::begin_of(const Document& document, int64_t sentence) const {
  if (sentence == 0) return document.begin;
  const int64_t number = document.first + sentence;
  return number == document.last ? document.end : document.file->sentence_begin(number);
}

int64_t SentenceCorpus::length(int64_t document, int64_t sentence) const {
  return begin_of(at(document), sentence + 1) - begin_of(at(document), sentence);
}

void SentenceCorpus::read(int64_t document, int64_t first, int64_t last, std::vector<int32_t>& ids) const {
  const Document& source = at(document);
  const int64_t begin = begin_of(source, first), count = begin_of(source, last) - begin;
  const size_t before = ids.size();
  ids.resize(before + static_cast<size_t>(count));
  source.file->read(begin, count, ids.data() + before);
}

}  // namespace ondol::detail
