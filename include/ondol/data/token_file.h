// Prepared corpora: the token ids of many documents, memory-mapped.
//
//   prepare_tokens(encoder, {"corpus/*.txt"}, "runs/corpus");     // writes runs/corpus.bin and runs/corpus.idx
//   TokenFile tokens("runs/corpus");
//   tokens.read(0, 256, ids);
//
// PREFIX.bin: the ids of all documents one after another, uint16 (vocabulary up to 65536) or uint32, little-endian;
// each document with the beginning- and end-of-document ids that the encoder names. PREFIX.idx, little-endian:
// "ONDOLIDX", u32 version (1), u32 bytes of an id (2 or 4); u64 first token of each document; then 64 bytes: u64
// documents, u64 tokens, u64 vocabulary size, u64 tokenizer fingerprint, i64 end-of-document id or -1, u64 size of
// PREFIX.bin, u64 CRC-32 of PREFIX.bin, u64 CRC-32 of PREFIX.idx up to here. Sizes, order of the offsets and the
// checksum of the index are checked before use.
//
// With the sentences of the documents (DocumentOptions::sentences) the version is 2: instead of the first token of each
// document the index has the first token of each sentence, the highest bit set where a document begins. Sentences are
// tokenized one by one; the beginning-of-document id belongs to the first, the end-of-document id to the last one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ondol/base/file.h>
#include <ondol/data/documents.h>
#include <ondol/data/text_encoder.h>

namespace ondol {

class TokenFile {
 public:
  /// `prefix` may also be the name of either file. Throws Error `cannot read token file: WHY (FILE)`.
  explicit TokenFile(std::string prefix);

  int64_t tokens() const { return tokens_; }
  int64_t documents() const { return documents_; }
  int64_t vocab_size() const { return vocab_size_; }
  uint64_t tokenizer_fingerprint() const { return tokenizer_fingerprint_; }
  int32_t eos_id() const { return eos_id_; }  // -1: none
  int bytes_per_token() const { return bytes_per_token_; }
  const std::string& prefix() const { return prefix_; }

  /// Ids of tokens [begin, begin + count). Throws when one is not below vocab_size().
  void read(int64_t begin, int64_t count, int32_t* ids) const;
  /// First token of a document; documents() stands for the end.
  int64_t document_begin(int64_t document) const;
  /// The document that holds a token.
  int64_t document_at(int64_t token) const;
  /// Sentences of all documents; 0 when the files do not have them.
  int64_t sentences() const { return sentences_; }
  /// First sentence of a document (documents() stands for the end); first token of a sentence (sentences() likewise).
  int64_t first_sentence(int64_t document) const;
  int64_t sentence_begin(int64_t sentence) const;
  /// Reads all of PREFIX.bin and throws when its checksum is not that of the index.
  void verify() const;

 private:
  void read_sentences(const uint64_t* entries, uint64_t count, uint64_t documents, uint64_t tokens);

  std::string prefix_;
  std::unique_ptr<const MappedFile> bin_;
  std::unique_ptr<const MappedFile> idx_;
  const uint64_t* offsets_ = nullptr;  // first token of each document
  const uint64_t* sentence_entries_ = nullptr;
  std::vector<uint64_t> document_offsets_;  // where the index has sentences
  std::vector<int64_t> first_sentences_;
  int64_t sentences_ = 0;
  int64_t tokens_ = 0;
  int64_t documents_ = 0;
  int64_t vocab_size_ = 0;
  uint64_t tokenizer_fingerprint_ = 0;
  int32_t eos_id_ = -1;
  int bytes_per_token_ = 0;
  uint32_t bin_crc_ = 0;
};

struct PrepareStatistics {
  int64_t documents = 0;
  int64_t tokens = 0;
  int64_t text_bytes = 0;
};

/// Tokenizes text files into PREFIX.bin and PREFIX.idx. Documents stream through in batches, so memory stays flat (8
/// bytes a document are kept); the result does not depend on the number of threads. The index is committed last:
/// without it the file does not count. Throws UsageError when no input holds any text.
PrepareStatistics prepare_tokens(const TextEncoder& encoder, const std::vector<std::string>& inputs,
                                 const std::string& prefix, const DocumentOptions& options = {},
                                 const std::function<void(const PrepareStatistics&)>& progress = {});

}  // namespace ondol
