#include <cstring>

#include <ondol/base/error.h>
#include <ondol/data/token_file.h>

#include "data/token_file_format.h"

namespace ondol {

namespace {

constexpr size_t kBatchBytes = size_t{8} << 20;
constexpr size_t kPieceBytes = size_t{1} << 20;
constexpr size_t kBatchTexts = 4096;

/// A file, and the checksum of what it was given.
struct CheckedFile {
  explicit CheckedFile(const std::string& path) : file(path) {}
  void write(const void* data, size_t size) {
    checksum = crc32(checksum, data, size);
    file.write(data, size);
  }

  AtomicFile file;
  uint32_t checksum = 0;
};

class TokenFileWriter {
 public:
  TokenFileWriter(const TextEncoder& encoder, const std::string& prefix, bool sentences)
      : encoder_(encoder),
        narrow_(encoder.vocab_size <= 65536),
        sentences_(sentences),
        bin_(prefix + ".bin"),
        idx_(prefix + ".idx") {
    detail::IndexHeader header{
        {}, sentences ? detail::kSentenceIndexVersion : detail::kIndexVersion, narrow_ ? 2u : 4u};
    std::memcpy(header.magic, detail::kIndexMagic, sizeof header.magic);
    idx_.write(&header, sizeof header);
  }

  void begin_document() {
    const uint64_t entry = tokens_ | (sentences_ ? detail::kDocumentBegins : 0);
    idx_.write(&entry, sizeof entry);
    ++documents_;
    if (encoder_.bos_id >= 0) write({&encoder_.bos_id, 1});
  }
  /// A sentence that is not the first of its document.
  void begin_sentence() { idx_.write(&tokens_, sizeof tokens_); }
  void end_document() {
    if (encoder_.eos_id >= 0) write({&encoder_.eos_id, 1});
  }

  void write(std::span<const int32_t> ids) {
    narrowed_.resize(narrow_ ? ids.size() : 0);
    for (size_t i = 0; i < ids.size(); ++i) {
      ONDOL_CHECK(ids[i] >= 0 && ids[i] < encoder_.vocab_size, "token id ", ids[i], " is outside the vocabulary of ",
                  encoder_.vocab_size, " (", bin_.file.path(), ")");
      if (narrow_) narrowed_[i] = static_cast<uint16_t>(ids[i]);
    }
    if (narrow_) {
      bin_.write(narrowed_.data(), narrowed_.size() * sizeof(uint16_t));
    } else {
      bin_.write(ids.data(), ids.size_bytes());
    }
    tokens_ += ids.size();
  }

  void commit() {
    detail::IndexFooter footer{documents_,
                               tokens_,
                               static_cast<uint64_t>(encoder_.vocab_size),
                               encoder_.fingerprint,
                               encoder_.eos_id,
                               bin_.file.size(),
                               bin_.checksum,
                               0};
    idx_.write(&footer, offsetof(detail::IndexFooter, idx_crc));
    footer.idx_crc = idx_.checksum;
    idx_.write(&footer.idx_crc, sizeof footer.idx_crc);
    // An index of an earlier corpus must never stand beside new tokens.
    file_operations().unlink(idx_.file.path().c_str());
    bin_.file.commit();
    idx_.file.commit();
  }

  uint64_t tokens() const { return tokens_; }
  uint64_t documents() const { return documents_; }

 private:
  const TextEncoder& encoder_;
  bool narrow_;
  bool sentences_;
  CheckedFile bin_;
  CheckedFile idx_;
  std::vector<uint16_t> narrowed_;
  uint64_t tokens_ = 0;
  uint64_t documents_ = 0;
};

// Texts waiting to be encoded together, each a whole document, a piece or a sentence of one.
struct TextBatch {
  struct Place {
    bool begins_document, begins_sentence, ends_document;
  };
  void add(std::string text, Place place) {
    bytes += text.size();
    places.push_back(place);
    texts.push_back(std::move(text));
  }

  std::vector<std::string> texts;
  std::vector<Place> places;
  size_t bytes = 0;
};

/// A piece of a document, or its sentences. `document_begins`: no text of the present document was added yet. A
/// document without a sentence is none.
void add_piece(DocumentPiece piece, SentenceSplit split, bool& document_begins, TextBatch& batch) {
  if (split == SentenceSplit::none) {
    batch.add(std::move(piece.text), {piece.first, false, piece.last});
    return;
  }
  for (const std::string_view sentence : split_sentences(piece.text, split)) {
    batch.add(std::string(sentence), {document_begins, !document_begins, false});
    document_begins = false;
  }
  if (!piece.last) return;
  if (!document_begins) batch.add("", {false, false, true});
  document_begins = true;
}

}  // namespace

PrepareStatistics prepare_tokens(const TextEncoder& encoder, const std::vector<std::string>& inputs,
                                 const std::string& prefix, const DocumentOptions& options,
                                 const std::function<void(const PrepareStatistics&)>& progress) {
  ONDOL_CHECK(encoder.vocab_size > 0 && encoder.vocab_size <= (int64_t{1} << 31),
              "cannot prepare tokens: vocabulary of ", encoder.vocab_size, " (", prefix, ")");
  if (prefix.empty() || prefix.ends_with('/')) {
    throw UsageError(concat("cannot prepare tokens: the prefix has no name (", prefix, ")"),
                     "for example corpus/train");
  }
  std::vector<std::string> files;
  for (const std::string& input : inputs) {
    for (std::string& path : expand_path(input)) files.push_back(std::move(path));
  }
  DocumentOptions reading = options;
  if (encoder.splits_at_newlines) reading.piece_bytes = std::min(reading.piece_bytes, kPieceBytes);

  make_directories(parent_directory(prefix));
  const bool sentences = options.sentences != SentenceSplit::none;
  TokenFileWriter writer(encoder, prefix, sentences);
  PrepareStatistics statistics;
  TextBatch batch;
  std::vector<std::vector<int32_t>> ids;
  const auto flush = [&] {
    if (batch.texts.empty()) return;
    ids.clear();
    encoder.encode(batch.texts, ids);
    ONDOL_CHECK(ids.size() == batch.texts.size(), "cannot prepare tokens: the tokenizer answered ", ids.size(), " of ",
                batch.texts.size(), " texts (", prefix, ")");
    for (size_t i = 0; i < ids.size(); ++i) {
      if (batch.places[i].begins_document) writer.begin_document();
      if (batch.places[i].begins_sentence) writer.begin_sentence();
      writer.write(ids[i]);
      if (batch.places[i].ends_document) writer.end_document();
    }
    statistics.text_bytes += static_cast<int64_t>(batch.bytes);
    statistics.tokens = static_cast<int64_t>(writer.tokens());
    statistics.documents = static_cast<int64_t>(writer.documents());
    batch = {};
    if (progress) progress(statistics);
  };
  for (const std::string& path : files) {
    DocumentReader reader(path, reading);
    bool document_begins = true;
    for (DocumentPiece piece; reader.next(piece);) {
      add_piece(std::move(piece), options.sentences, document_begins, batch);
      if (batch.bytes >= kBatchBytes || batch.texts.size() >= kBatchTexts) flush();
    }
  }
  flush();
  if (statistics.tokens == 0) {
    throw UsageError(concat("empty corpus: no text in ", files.size(), files.size() == 1 ? " file (" : " files (",
                            inputs.empty() ? prefix : inputs[0], ")"));
  }
  writer.commit();
  return statistics;
}

}  // namespace ondol
