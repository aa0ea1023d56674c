// Samples made of tokens: cut from the packed stream, or from one document each.
#include <algorithm>

#include <ondol/base/error.h>

#include "data/sample_source.h"

namespace ondol::detail {

namespace {

class PackedSource final : public SampleSource {
 public:
  PackedSource(TokenStream stream, const TokenSettings& settings) : stream_(std::move(stream)), settings_(settings) {}

  // A sample reads one token beyond its inputs, the target of the last one.
  int64_t size() const override { return std::max<int64_t>(stream_.size() - 1, 0) / settings_.sequence_length; }

  Batch allocate(int64_t rows, const RowLengths&) const override {
    const Shape shape{rows, settings_.sequence_length};
    Batch batch;
    batch.input_ids = Tensor::empty(shape, DType::i32);
    batch.labels = Tensor::empty(shape, DType::i32);
    if (settings_.document_mask) {
      batch.document_ids = Tensor::empty(shape, DType::i32);
      batch.positions = Tensor::empty(shape, DType::i32);
    }
    return batch;
  }

  void read(int64_t index, Batch& batch, int64_t row) const override {
    const int64_t length = settings_.sequence_length;
    const int64_t begin = index * length;
    std::vector<int32_t> tokens(static_cast<size_t>(length) + 1);
    stream_.read(begin, length + 1, tokens.data());
    std::copy_n(tokens.begin(), length, batch.input_ids.data<int32_t>() + row * length);
    int32_t* labels = batch.labels.data<int32_t>() + row * length;
    std::copy_n(tokens.begin() + 1, length, labels);
    if (!settings_.document_mask) return;
    int32_t* documents = batch.document_ids.data<int32_t>() + row * length;
    int32_t* positions = batch.positions.data<int32_t>() + row * length;
    int32_t document = 0;
    for (int64_t t = 0; t < length; ++document) {
      const int64_t end = stream_.document_end(begin + t) - begin;
      for (int32_t position = 0; t < std::min(end, length); ++t, ++position) {
        documents[t] = document;
        positions[t] = position;
      }
      if (end <= length) labels[end - 1] = kIgnoreIndex;
    }
  }

  std::string layout() const override { return "tokens"; }

  std::string describe() const override {
    return concat(stream_.count_documents(), " documents, ", stream_.size(), " tokens, ", size(), " samples of ",
                  settings_.sequence_length);
  }

 private:
  TokenStream stream_;
  TokenSettings settings_;
};

class DocumentSource final : public SampleSource {
 public:
  DocumentSource(TokenStream stream, const TokenSettings& settings) : stream_(std::move(stream)), settings_(settings) {
    for (int64_t token = 0; token < stream_.size();) {
      const int64_t end = stream_.document_end(token);
      // Every sample has at least one token with a target.
      const int64_t parts = (end - token - 1 + settings_.sequence_length - 1) / settings_.sequence_length;
      if (parts > 0) {
        documents_.push_back({token, end, samples_});
        samples_ += parts;
      }
      token = end;
    }
  }

  int64_t size() const override { return samples_; }

  Batch allocate(int64_t rows, const RowLengths&) const override {
    const Shape shape{rows, settings_.sequence_length};
    Batch batch;
    batch.input_ids = Tensor::empty(shape, DType::i32);
    batch.labels = Tensor::empty(shape, DType::i32);
    batch.attention_mask = Tensor::empty(shape, DType::u8);
    return batch;
  }

  void read(int64_t index, Batch& batch, int64_t row) const override {
    const auto after = std::upper_bound(documents_.begin(), documents_.end(), index,
                                        [](int64_t i, const Document& document) { return i < document.first_sample; });
    const Document& document = *(after - 1);
    const int64_t length = settings_.sequence_length;
    const int64_t begin = document.begin + (index - document.first_sample) * length;
    const int64_t with_target = std::min(length, document.end - begin - 1);
    const int64_t inputs = std::min(length, document.end - begin);
    std::vector<int32_t> tokens(static_cast<size_t>(length) + 1, settings_.pad_id);
    stream_.read(begin, std::min(length + 1, document.end - begin), tokens.data());
    std::copy_n(tokens.begin(), length, batch.input_ids.data<int32_t>() + row * length);
    int32_t* labels = batch.labels.data<int32_t>() + row * length;
    std::copy_n(tokens.begin() + 1, with_target, labels);
    std::fill(labels + with_target, labels + length, kIgnoreIndex);
    uint8_t* mask = batch.attention_mask.data<uint8_t>() + row * length;
    std::fill_n(mask, inputs, uint8_t{1});
    std::fill(mask + inputs, mask + length, uint8_t{0});
  }

  std::string layout() const override { return "tokens"; }

  std::string describe() const override {
    return concat(stream_.count_documents(), " documents, ", stream_.size(), " tokens, ", size(),
                  " samples of at most ", settings_.sequence_length);
  }

 private:
  struct Document {
    int64_t begin;
    int64_t end;
    int64_t first_sample;
  };
  TokenStream stream_;
  TokenSettings settings_;
  std::vector<Document> documents_;
  int64_t samples_ = 0;
};

}  // namespace

std::unique_ptr<SampleSource> make_packed_source(TokenStream stream, const TokenSettings& settings) {
  return std::make_unique<PackedSource>(std::move(stream), settings);
}

std::unique_ptr<SampleSource> make_document_source(TokenStream stream, const TokenSettings& settings) {
  return std::make_unique<DocumentSource>(std::move(stream), settings);
}

}  // namespace ondol::detail
