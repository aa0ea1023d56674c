#include "data/clean/document_source.h"

#include <algorithm>
#include <future>
#include <limits>

#include <ondol/base/error.h>

namespace ondol::clean {

namespace {
constexpr size_t kMaxDocumentBytes = size_t{1} << 30;
constexpr size_t kBatchBytes = size_t{8} << 20;
constexpr size_t kBatchDocuments = 16384;
constexpr size_t kBufferBytes = size_t{1} << 20;
}  // namespace

FileSource::FileSource(const std::vector<std::string>& files, const CleanConfig& config)
    : files_(files),
      options_{.separator = config.separator, .text_field = config.text_field, .piece_bytes = kMaxDocumentBytes} {}

bool FileSource::next(Document& document) {
  DocumentPiece piece;
  while (true) {
    if (!reader_) {
      if (opened_ == files_.size()) return false;
      reader_.emplace(files_[opened_++], options_);
    }
    if (reader_->next(piece)) break;
    reader_.reset();
  }
  const std::string& path = files_[opened_ - 1];
  if (!piece.last) {
    throw UsageError(concat("document longer than ", kMaxDocumentBytes >> 20, " MiB (", path, ")"),
                     "separator says how the documents of a text file are told apart");
  }
  document.file = static_cast<uint32_t>(opened_ - 1);
  document.line = reader_->line_number();
  document.row = reader_->row();
  document.text = std::move(piece.text);
  document.changed = false;
  return true;
}

void DocumentSpill::append(const Document& document) {
  const uint64_t header[] = {document.file, static_cast<uint64_t>(document.line), document.row.size(),
                             document.text.size(), document.changed};
  file_.append(header, sizeof header);
  file_.append(document.row.data(), document.row.size());
  file_.append(document.text.data(), document.text.size());
}

void SpillSource::read(void* data, size_t size) {
  char* out = static_cast<char*>(data);
  while (size > 0) {
    if (used_ == buffer_.size()) {
      position_ += buffer_.size();
      buffer_.resize(static_cast<size_t>(std::min<uint64_t>(kBufferBytes, file_.size() - position_)));
      file_.read_at(position_, buffer_.data(), buffer_.size());
      used_ = 0;
    }
    const size_t part = std::min(size, buffer_.size() - used_);
    std::copy_n(buffer_.data() + used_, part, out);
    used_ += part;
    out += part;
    size -= part;
  }
}

bool SpillSource::next(Document& document) {
  if (position_ + used_ == file_.size()) return false;
  uint64_t header[5];
  read(header, sizeof header);
  document.file = static_cast<uint32_t>(header[0]);
  document.line = static_cast<int64_t>(header[1]);
  document.row.resize(header[2]);
  document.text.resize(header[3]);
  document.changed = header[4] != 0;
  read(document.row.data(), document.row.size());
  read(document.text.data(), document.text.size());
  return true;
}

struct BatchReader::Ahead {
  std::future<DocumentBatch> batch;
};

BatchReader::BatchReader(std::unique_ptr<DocumentSource> source)
    : source_(std::move(source)), ahead_(std::make_unique<Ahead>()) {
  ahead_->batch = std::async(std::launch::async, [this] { return read(); });
}

BatchReader::~BatchReader() {
  if (ahead_->batch.valid()) ahead_->batch.wait();
}

DocumentBatch BatchReader::read() {
  DocumentBatch batch;
  size_t bytes = 0;
  Document document;
  while (bytes < kBatchBytes && batch.documents.size() < kBatchDocuments && source_->next(document)) {
    ONDOL_CHECK(read_ < std::numeric_limits<uint32_t>::max(), "too many documents: at most 2^32 - 1 in one run");
    batch.ordinals.push_back(static_cast<uint32_t>(read_++));
    bytes += document.row.size() + document.text.size();
    batch.documents.push_back(std::move(document));
    document = {};
  }
  batch.read = read_;
  return batch;
}

bool BatchReader::next(DocumentBatch& batch) {
  if (!ahead_->batch.valid()) return false;
  batch = ahead_->batch.get();
  if (batch.documents.empty()) return false;
  ahead_->batch = std::async(std::launch::async, [this] { return read(); });
  return true;
}

}  // namespace ondol::clean
