#include <ondol/data/token_file.h>

#include <algorithm>
#include <cstring>

#include <ondol/base/error.h>

#include "data/token_file_format.h"

namespace ondol {

using detail::IndexFooter;
using detail::IndexHeader;

TokenFile::TokenFile(std::string prefix) : prefix_(std::move(prefix)) {
  if (prefix_.ends_with(".bin") || prefix_.ends_with(".idx")) prefix_.resize(prefix_.size() - 4);
  const std::string idx_path = prefix_ + ".idx";
  const auto fail = [&](const auto&... why) { throw_error("cannot read token file: ", why..., " (", idx_path, ")"); };
  try {
    idx_ = std::make_unique<const MappedFile>(idx_path);
  } catch (const Error& error) {
    throw Error(error.what(), "a .bin file needs its .idx file; ondol data prepare writes both");
  }
  if (idx_->size() < sizeof(IndexHeader) + sizeof(IndexFooter))
    fail("the index is too short: ", idx_->size(), " bytes");
  IndexHeader header;
  IndexFooter footer;
  std::memcpy(&header, idx_->data(), sizeof header);
  std::memcpy(&footer, idx_->data() + idx_->size() - sizeof footer, sizeof footer);
  if (std::memcmp(header.magic, detail::kIndexMagic, sizeof header.magic) != 0) fail("not an index of tokens");
  const bool has_sentences = header.version == detail::kSentenceIndexVersion;
  if (header.version != detail::kIndexVersion && !has_sentences) fail("unknown version ", header.version);
  if (header.bytes_per_token != 2 && header.bytes_per_token != 4) fail("ids of ", header.bytes_per_token, " bytes");
  const size_t summed = idx_->size() - sizeof footer.idx_crc;
  if (footer.idx_crc != crc32(0, idx_->data(), summed)) fail("the checksum of the index is wrong");

  const uint64_t offsets_bytes = idx_->size() - sizeof header - sizeof footer;
  const bool fits = footer.documents <= offsets_bytes / 8 &&
                    (has_sentences ? offsets_bytes % 8 == 0 : footer.documents * 8 == offsets_bytes);
  if (!fits) {
    fail("the index has ", offsets_bytes, " bytes of offsets for ", footer.documents, " documents");
  }
  bin_ = std::make_unique<const MappedFile>(prefix_ + ".bin");
  if (footer.bin_bytes != bin_->size() || footer.tokens > bin_->size() ||
      footer.tokens * header.bytes_per_token != bin_->size()) {
    fail(prefix_, ".bin has ", bin_->size(), " bytes, expected ", footer.bin_bytes, " for ", footer.tokens, " tokens");
  }
  if (footer.vocab_size == 0 || footer.vocab_size > (uint64_t{1} << 31)) fail("vocabulary size ", footer.vocab_size);
  if (footer.eos_id < -1 || footer.eos_id >= static_cast<int64_t>(footer.vocab_size)) {
    fail("end-of-document id ", footer.eos_id, " in a vocabulary of ", footer.vocab_size);
  }
  offsets_ = reinterpret_cast<const uint64_t*>(idx_->data() + sizeof header);  // 16 bytes into a page: aligned
  if (has_sentences) read_sentences(offsets_, offsets_bytes / 8, footer.documents, footer.tokens);
  for (uint64_t d = 0; d < footer.documents; ++d) {
    const uint64_t previous = d == 0 ? 0 : offsets_[d - 1];
    if (offsets_[d] < previous || offsets_[d] > footer.tokens || (d == 0 && offsets_[0] != 0)) {
      fail("document ", d, " begins at token ", offsets_[d]);
    }
  }
  if (footer.documents == 0 && footer.tokens > 0) fail("tokens without documents");
  tokens_ = static_cast<int64_t>(footer.tokens);
  documents_ = static_cast<int64_t>(footer.documents);
  vocab_size_ = static_cast<int64_t>(footer.vocab_size);
  tokenizer_fingerprint_ = footer.tokenizer_fingerprint;
  eos_id_ = static_cast<int32_t>(footer.eos_id);
  bytes_per_token_ = static_cast<int>(header.bytes_per_token);
  bin_crc_ = static_cast<uint32_t>(footer.bin_crc);
}

/// The entries of version 2.
void TokenFile::read_sentences(const uint64_t* entries, uint64_t count, uint64_t documents, uint64_t tokens) {
  const auto fail = [&](const auto&... why) {
    throw_error("cannot read token file: ", why..., " (", prefix_, ".idx)");
  };
  uint64_t previous = 0;
  for (uint64_t s = 0; s < count; ++s) {
    const uint64_t begin = entries[s] & ~detail::kDocumentBegins;
    if (begin < previous || begin > tokens) fail("sentence ", s, " begins at token ", begin);
    previous = begin;
    if (begin == entries[s]) continue;
    document_offsets_.push_back(begin);
    first_sentences_.push_back(static_cast<int64_t>(s));
  }
  const bool begins = count == 0 || (!first_sentences_.empty() && first_sentences_[0] == 0);
  if (!begins || document_offsets_.size() != documents) {
    fail(document_offsets_.size(), " documents begin with a sentence, expected ", documents);
  }
  sentence_entries_ = entries;
  sentences_ = static_cast<int64_t>(count);
  offsets_ = document_offsets_.data();
}

void TokenFile::read(int64_t begin, int64_t count, int32_t* ids) const {
  ONDOL_CHECK(begin >= 0 && count >= 0 && begin <= tokens_ - count, "cannot read tokens ", begin, "+", count, " of ",
              tokens_, " (", prefix_, ".bin)");
  if (count == 0) return;
  int64_t largest = 0;
  if (bytes_per_token_ == 2) {
    const uint16_t* source = reinterpret_cast<const uint16_t*>(bin_->data()) + begin;
    for (int64_t i = 0; i < count; ++i) {
      ids[i] = source[i];
      largest = std::max<int64_t>(largest, source[i]);
    }
  } else {
    const uint32_t* source = reinterpret_cast<const uint32_t*>(bin_->data()) + begin;
    for (int64_t i = 0; i < count; ++i) {
      ids[i] = static_cast<int32_t>(source[i]);
      largest = std::max<int64_t>(largest, source[i]);
    }
  }
  ONDOL_CHECK(largest < vocab_size_, "token id ", largest, " is outside the vocabulary of ", vocab_size_, ": tokens ",
              begin, " to ", begin + count - 1, " (", prefix_, ".bin)");
}

int64_t TokenFile::document_begin(int64_t document) const {
  ONDOL_CHECK(document >= 0 && document <= documents_, "no document ", document, " of ", documents_, " (", prefix_,
              ")");
  return document == documents_ ? tokens_ : static_cast<int64_t>(offsets_[document]);
}

int64_t TokenFile::document_at(int64_t token) const {
  ONDOL_CHECK(token >= 0 && token < tokens_, "no token ", token, " of ", tokens_, " (", prefix_, ")");
  return std::upper_bound(offsets_, offsets_ + documents_, static_cast<uint64_t>(token)) - offsets_ - 1;
}

int64_t TokenFile::first_sentence(int64_t document) const {
  ONDOL_CHECK(sentences_ > 0 && document >= 0 && document <= documents_, "no sentences of document ", document, " of ",
              documents_, " (", prefix_, ")");
  return document == documents_ ? sentences_ : first_sentences_[static_cast<size_t>(document)];
}

int64_t TokenFile::sentence_begin(int64_t sentence) const {
  ONDOL_CHECK(sentence >= 0 && sentence <= sentences_, "no sentence ", sentence, " of ", sentences_, " (", prefix_,
              ")");
  if (sentence == sentences_) return tokens_;
  return static_cast<int64_t>(sentence_entries_[sentence] & ~detail::kDocumentBegins);
}

void TokenFile::verify() const {
  ONDOL_CHECK(crc32(0, bin_->data(), bin_->size()) == bin_crc_,
              "cannot read token file: the checksum of the tokens is wrong (", prefix_, ".bin)");
}

}  // namespace ondol
