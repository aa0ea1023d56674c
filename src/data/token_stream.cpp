#include <algorithm>

#include <ondol/base/error.h>

#include "data/sample_source.h"

namespace ondol::detail {

TokenStream::TokenStream(std::vector<std::shared_ptr<const TokenFile>> files) : files_(std::move(files)), starts_{0} {
  for (const auto& file : files_) starts_.push_back(starts_.back() + file->tokens());
  end_ = starts_.back();
}

TokenStream TokenStream::slice(int64_t begin, int64_t end) const {
  ONDOL_CHECK(begin >= 0 && begin <= end && end <= size(), "[token stream] no part ", begin, " to ", end, " of ",
              size());
  TokenStream part = *this;
  part.begin_ = begin_ + begin;
  part.end_ = begin_ + end;
  return part;
}

size_t TokenStream::file_at(int64_t absolute) const {
  return static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end() - 1, absolute) - starts_.begin() - 1);
}

int64_t TokenStream::document_start(int64_t token) const {
  const size_t f = file_at(begin_ + token);
  const int64_t start = starts_[f] + files_[f]->document_begin(files_[f]->document_at(begin_ + token - starts_[f]));
  return std::max<int64_t>(start - begin_, 0);
}

int64_t TokenStream::document_end(int64_t token) const {
  const size_t f = file_at(begin_ + token);
  const int64_t end = starts_[f] + files_[f]->document_begin(files_[f]->document_at(begin_ + token - starts_[f]) + 1);
  return std::min(end, end_) - begin_;
}

void TokenStream::read(int64_t begin, int64_t count, int32_t* ids) const {
  ONDOL_CHECK(begin >= 0 && count >= 0 && count <= size() - begin, "[token stream] no tokens ", begin, "+", count,
              " of ", size());
  while (count > 0) {
    const int64_t absolute = begin_ + begin;
    const size_t f = file_at(absolute);
    const int64_t part = std::min(count, starts_[f + 1] - absolute);
    files_[f]->read(absolute - starts_[f], part, ids);
    begin += part;
    ids += part;
    count -= part;
  }
}

std::vector<TokenStream::FilePart> TokenStream::parts() const {
  std::vector<FilePart> parts;
  for (size_t f = 0; f < files_.size(); ++f) {
    const int64_t begin = std::max(begin_, starts_[f]) - starts_[f];
    const int64_t end = std::min(end_, starts_[f + 1]) - starts_[f];
    if (begin < end) parts.push_back({files_[f].get(), begin, end});
  }
  return parts;
}

int64_t TokenStream::count_documents() const {
  int64_t count = 0;
  for (size_t f = 0; f < files_.size(); ++f) {
    const int64_t begin = std::max(begin_, starts_[f]) - starts_[f];
    const int64_t end = std::min(end_, starts_[f + 1]) - starts_[f];
    if (begin < end) count += files_[f]->document_at(end - 1) - files_[f]->document_at(begin) + 1;
  }
  return count;
}

}  // namespace ondol::detail
