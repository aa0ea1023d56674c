// Samples made from structured examples: encoded once, kept in memory, padded to the longest of a batch.
#include <cmath>
#include <deque>
#include <exception>

#include <ondol/base/error.h>
#include <ondol/base/parallel.h>

#include "data/record_encoder.h"
#include "data/record_reader.h"
#include "data/sample_source.h"

namespace ondol::detail {

namespace {

constexpr size_t kRecordsAtOnce = 4096;
constexpr int64_t kLengthMultiple = 8;
constexpr size_t kOpenRows = 64;

bool is_sequence(const SampleColumn& column) {
  return column.kind == SampleColumn::sequence || column.kind == SampleColumn::target_sequence;
}
size_t group_of(const SampleColumn& column) { return column.kind == SampleColumn::target_sequence ? 1 : 0; }

int64_t rounded(int64_t length, int64_t limit) {
  const int64_t up = (length + kLengthMultiple - 1) / kLengthMultiple * kLengthMultiple;
  return limit > 0 ? std::max(length, std::min(up, limit)) : up;
}

struct Place {
  uint32_t file = 0;
  bool is_line = true;
  int64_t number = 0;
};

/// The values of all samples, one sample behind the other.
class SampleStore {
 public:
  SampleStore(std::vector<SampleColumn> columns, int64_t sequence_length)
      : columns_(std::move(columns)), values_(columns_.size()), sequence_length_(sequence_length) {
    ONDOL_CHECK(!columns_.empty() && columns_[0].name == "input_ids" && columns_[0].kind == SampleColumn::sequence,
                "[records] the first column must be input_ids");
  }

  const std::vector<SampleColumn>& columns() const { return columns_; }
  int64_t size() const { return static_cast<int64_t>(sample_records_.size()); }
  int64_t records() const { return static_cast<int64_t>(places_.size()); }

  void add(const Record& record, Place place, EncodedRecord&& encoded) {
    for (EncodedSample& sample : encoded.samples) {
      check(record, sample);
      for (size_t c = 0; c < columns_.size(); ++c) {
        std::visit([&](const auto& list) { append(c, list); }, sample.values[c]);
      }
      for (size_t group = 0; group < 2; ++group) starts_[group].push_back(starts_[group].back() + length_[group]);
      sample_records_.push_back(records());
      references_.push_back(std::move(sample.reference));
    }
    truncated_ += encoded.truncated;
    left_out_ += encoded.samples.empty();
    places_.push_back(place);
  }

  int64_t length(int64_t sample, size_t group = 0) const {
    return starts_[group][static_cast<size_t>(sample) + 1] - starts_[group][static_cast<size_t>(sample)];
  }
  int64_t record(int64_t sample) const { return sample_records_[static_cast<size_t>(sample)]; }
  const Place& place(int64_t record) const { return places_[static_cast<size_t>(record)]; }
  const std::string& reference(int64_t sample) const { return references_[static_cast<size_t>(sample)]; }

  /// Copies a column of a sample.
  void copy(size_t c, int64_t sample, const Tensor& target, int64_t at) const {
    const SampleColumn& column = columns_[c];
    const int64_t count = is_sequence(column) ? length(sample, group_of(column)) : column.width;
    const int64_t begin =
        is_sequence(column) ? starts_[group_of(column)][static_cast<size_t>(sample)] : sample * column.width;
    if (column.dtype == DType::f32) {
      std::copy_n(values_[c].floats.begin() + begin, count, target.data<float>() + at);
    } else {
      std::copy_n(values_[c].ints.begin() + begin, count, target.data<int32_t>() + at);
    }
  }

  std::string describe(int64_t first_record, int64_t end_record, int64_t samples, int64_t tokens) const {
    int64_t bytes = 0;
    for (const Values& values : values_) bytes += static_cast<int64_t>(4 * (values.ints.size() + values.floats.size()));
    std::string text = concat(end_record - first_record, " examples, ", samples, " samples, ", tokens, " tokens");
    if (truncated_ > 0) text += concat(", ", truncated_, " truncated");
    if (left_out_ > 0) text += concat(", ", left_out_, " left out");
    return text + concat(", ", (bytes + (1 << 20) - 1) >> 20, " MiB in memory");
  }

 private:
  struct Values {
    std::vector<int32_t> ints;
    std::vector<float> floats;
  };

  void append(size_t c, const std::vector<int32_t>& list) {
    values_[c].ints.insert(values_[c].ints.end(), list.begin(), list.end());
  }
  void append(size_t c, const std::vector<float>& list) {
    values_[c].floats.insert(values_[c].floats.end(), list.begin(), list.end());
  }

  void check(const Record& record, const EncodedSample& sample) {
    ONDOL_CHECK(sample.values.size() == columns_.size(), "[records] a sample has ", sample.values.size(), " columns");
    length_ = {-1, -1};
    for (size_t c = 0; c < columns_.size(); ++c) {
      const SampleColumn& column = columns_[c];
      const auto count =
          static_cast<int64_t>(std::visit([](const auto& list) { return list.size(); }, sample.values[c]));
      const bool floats = std::holds_alternative<std::vector<float>>(sample.values[c]);
      ONDOL_CHECK(floats == (column.dtype == DType::f32), "[records] \"", column.name, "\" has values of another type");
      if (!is_sequence(column)) {
        ONDOL_CHECK(count == column.width, "[records] \"", column.name, "\" has ", count, " values");
        continue;
      }
      int64_t& length = length_[group_of(column)];
      ONDOL_CHECK(length < 0 || length == count, "[records] \"", column.name, "\" has ", count, " values, not ",
                  length);
      length = count;
    }
    if (length_[0] == 0) record.fail("it has no tokens");
    if (sequence_length_ > 0 && length_[0] > sequence_length_) {
      record.fail(concat(length_[0], " tokens, data.sequence_length is ", sequence_length_));
    }
    length_[1] = std::max<int64_t>(length_[1], 0);
  }

  std::vector<SampleColumn> columns_;
  std::vector<Values> values_;
  std::array<std::vector<int64_t>, 2> starts_ = {std::vector<int64_t>{0}, std::vector<int64_t>{0}};
  std::array<int64_t, 2> length_{};  // of the sample that is being added
  std::vector<int64_t> sample_records_;
  std::vector<std::string> references_;
  std::vector<Place> places_;
  int64_t sequence_length_;
  int64_t truncated_ = 0, left_out_ = 0;
};

/// Encodes records in parallel and adds them in order; of several errors the first in the file is thrown.
void encode_all(const std::vector<Record>& records, const std::vector<Place>& places, const RecordEncoder& encoder,
                SampleStore& store) {
  std::vector<EncodedRecord> encoded(records.size());
  std::vector<std::exception_ptr> errors(records.size());
  parallel_for(static_cast<int64_t>(records.size()), 16, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      try {
        encoder.encode(records[i], encoded[i]);
      } catch (...) {
        errors[i] = std::current_exception();
      }
    }
  });
  for (size_t i = 0; i < records.size(); ++i) {
    if (errors[i]) std::rethrow_exception(errors[i]);
    store.add(records[i], places[i], std::move(encoded[i]));
  }
}

SampleStore read_all(const std::vector<RecordFile>& files, const RecordSettings& settings, const RecordEncoder& encoder,
                     int64_t sequence_length) {
  SampleStore store(encoder.columns(), sequence_length);
  std::vector<Record> records;
  std::vector<Place> places;
  for (size_t f = 0; f < files.size(); ++f) {
    RecordReader reader(files[f], settings);
    for (Record record; reader.next(record);) {
      places.push_back({static_cast<uint32_t>(f), record.counts_lines(), record.number()});
      records.push_back(std::move(record));
      if (records.size() < kRecordsAtOnce) continue;
      encode_all(records, places, encoder, store);
      records.clear();
      places.clear();
    }
  }
  encode_all(records, places, encoder, store);
  return store;
}

class RecordSource final : public SampleSource {
 public:
  RecordSource(const std::vector<RecordFile>& files, const RecordSourceSettings& settings)
      : files_(files),
        store_(read_all(files, settings.reading, *settings.encoder, settings.sequence_length)),
        packed_(settings.packing && settings.encoder->can_pack()) {
    const auto cut = [&](double fraction) { return std::llround(fraction * static_cast<double>(store_.records())); };
    first_record_ = cut(settings.begin_fraction);
    end_record_ = cut(settings.end_fraction);
    for (int64_t sample = 0; sample < store_.size(); ++sample) {
      if (store_.record(sample) < first_record_ || store_.record(sample) >= end_record_) continue;
      samples_.push_back(sample);
      tokens_ += store_.length(sample);
    }
    if (packed_) {
      for (const SampleColumn& column : store_.columns()) {
        ONDOL_CHECK(column.kind == SampleColumn::sequence, "[records] \"", column.name, "\" cannot be packed");
      }
      pack(settings.sequence_length);
    }
  }

  int64_t size() const override { return static_cast<int64_t>(packed_ ? rows_.size() : samples_.size()); }

  RowLengths lengths(int64_t index) const override {
    RowLengths lengths;
    for (const int64_t sample : row(index)) {
      for (size_t group = 0; group < 2; ++group) lengths.longest[group] += store_.length(sample, group);
    }
    return lengths;
  }

  Batch allocate(int64_t rows, const RowLengths& lengths) const override {
    Batch batch;
    batch.labels_shifted = false;
    const auto length_of = [&](const SampleColumn& column) {
      return rounded(lengths.longest[group_of(column)], column.limit);
    };
    for (const SampleColumn& column : store_.columns()) {
      Shape shape{rows};
      if (is_sequence(column)) shape = Shape{rows, length_of(column)};
      if (column.kind == SampleColumn::row) shape = Shape{rows, column.width};
      batch_field(batch, column.name) = Tensor::full(shape, column.padding, column.dtype);
    }
    const Shape inputs = batch.input_ids.shape();
    batch.attention_mask = Tensor::zeros(inputs, DType::u8);
    if (packed_) {
      batch.document_ids = Tensor::full(inputs, -1, DType::i32);
      batch.positions = Tensor::zeros(inputs, DType::i32);
    }
    for (const SampleColumn& column : store_.columns()) {
      if (column.name != "decoder_input_ids") continue;
      batch_field(batch, "decoder_attention_mask") = Tensor::zeros({rows, length_of(column)}, DType::u8);
    }
    return batch;
  }

  void read(int64_t index, Batch& batch, int64_t row_number) const override {
    const int64_t width = batch.input_ids.size(1);
    int64_t at = 0;
    int32_t document = 0;
    for (const int64_t sample : row(index)) {
      const int64_t length = store_.length(sample);
      for (size_t c = 0; c < store_.columns().size(); ++c) {
        const SampleColumn& column = store_.columns()[c];
        const Tensor& target = batch_field(batch, column.name);
        store_.copy(c, sample, target, row_number * (target.numel() / target.size(0)) + at);
        if (packed_ && column.name == "labels") {
          // What a causal model predicts its first token from belongs to another document.
          target.data<int32_t>()[row_number * width + at] = kIgnoreIndex;
        }
        if (column.name == "decoder_input_ids") {
          const Tensor& mask = batch_field(batch, "decoder_attention_mask");
          std::fill_n(mask.data<uint8_t>() + row_number * mask.size(1), store_.length(sample, 1), uint8_t{1});
        }
      }
      std::fill_n(batch.attention_mask.data<uint8_t>() + row_number * width + at, length, uint8_t{1});
      if (packed_) {
        std::fill_n(batch.document_ids.data<int32_t>() + row_number * width + at, length, document++);
        int32_t* positions = batch.positions.data<int32_t>() + row_number * width + at;
        for (int64_t t = 0; t < length; ++t) positions[t] = static_cast<int32_t>(t);
      }
      at += length;
    }
  }

  std::string layout() const override {
    std::string text = packed_ ? "packed examples" : "examples";
    for (const SampleColumn& column : store_.columns()) {
      text += concat(" ", column.name, column.kind, column.width, dtype_name(column.dtype));
    }
    return text;
  }

  std::string describe() const override {
    std::string text = store_.describe(first_record_, end_record_, static_cast<int64_t>(samples_.size()), tokens_);
    return packed_ ? text + concat(", packed into ", rows_.size(), " rows") : text;
  }

  SampleOrigin origin(int64_t index) const override {
    const int64_t sample = row(index).front(), record = store_.record(sample);
    const Place& place = store_.place(record);
    return {record, files_[place.file].path + concat(place.is_line ? ":" : ", element ", place.number),
            store_.reference(sample)};
  }

 private:
  /// First fit, in the order of the files, into the rows that are open; of too many the oldest is closed.
  void pack(int64_t sequence_length) {
    std::deque<std::pair<size_t, int64_t>> open;  // row, tokens left
    for (const int64_t sample : samples_) {
      const int64_t length = store_.length(sample);
      const auto fits = std::find_if(open.begin(), open.end(), [&](const auto& row) { return row.second >= length; });
      if (fits != open.end()) {
        rows_[fits->first].push_back(sample);
        fits->second -= length;
        if (fits->second == 0) open.erase(fits);
        continue;
      }
      rows_.push_back({sample});
      open.emplace_back(rows_.size() - 1, sequence_length - length);
      if (open.size() > kOpenRows) open.pop_front();
    }
  }

  std::span<const int64_t> row(int64_t index) const {
    const auto i = static_cast<size_t>(index);
    return packed_ ? std::span<const int64_t>(rows_[i]) : std::span<const int64_t>(&samples_[i], 1);
  }

  std::vector<RecordFile> files_;
  SampleStore store_;
  bool packed_;
  int64_t first_record_ = 0, end_record_ = 0, tokens_ = 0;
  std::vector<int64_t> samples_;            // of this split
  std::vector<std::vector<int64_t>> rows_;  // of packed samples
};

}  // namespace

std::unique_ptr<SampleSource> make_record_source(const std::vector<RecordFile>& files,
                                                 const RecordSourceSettings& settings) {
  return std::make_unique<RecordSource>(files, settings);
}

}  // namespace ondol::detail
