// Finished samples: the rows of the tensors of .safetensors files.
#include <algorithm>
#include <cstring>
#include <limits>

#include <ondol/base/error.h>
#include <ondol/io/safetensors.h>

#include "data/sample_source.h"

namespace ondol::detail {

namespace {

bool is_integer(DType dtype) { return !is_floating(dtype) && dtype != DType::boolean; }

// The type that a batch holds: ids i32, masks u8, the rest f32.
DType batch_dtype(const std::string& name, DType dtype) {
  if (is_floating(dtype)) return DType::f32;
  return dtype == DType::boolean || name.ends_with("_mask") ? DType::u8 : DType::i32;
}

struct Column {
  std::string name;
  Shape row_shape;
  DType dtype;
};

class RowSource final : public SampleSource {
 public:
  RowSource(const std::vector<std::string>& paths, int64_t vocab_size, double begin_fraction, double end_fraction)
      : vocab_size_(vocab_size) {
    for (const std::string& path : paths) open(path);
    const int64_t total = starts_.back();
    begin_ = static_cast<int64_t>(begin_fraction * static_cast<double>(total));
    end_ = end_fraction >= 1 ? total : static_cast<int64_t>(end_fraction * static_cast<double>(total));
  }

  int64_t size() const override { return end_ - begin_; }

  Batch allocate(int64_t rows, const RowLengths&) const override {
    Batch batch;
    batch.labels_shifted = false;
    for (const Column& column : columns_) {
      std::vector<int64_t> sizes = {rows};
      sizes.insert(sizes.end(), column.row_shape.begin(), column.row_shape.end());
      batch_field(batch, column.name) = Tensor::empty(Shape(std::span<const int64_t>(sizes)), column.dtype);
    }
    return batch;
  }

  void read(int64_t index, Batch& batch, int64_t row) const override {
    const int64_t global = begin_ + index;
    const size_t f =
        static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end() - 1, global) - starts_.begin() - 1);
    const int64_t in_file = global - starts_[f];
    for (const Column& column : columns_) {
      const Tensor source = files_[f].tensor(column.name).narrow(0, in_file, 1);
      const Tensor& target = batch_field(batch, column.name);
      check(source, column, f, in_file);
      target.narrow(0, row, 1).copy_from(source);
    }
  }

  std::string layout() const override {
    std::string text = "rows";
    for (const Column& column : columns_) text += concat(" ", column.name, column.row_shape, dtype_name(column.dtype));
    return text;
  }

  std::string describe() const override {
    std::string names;
    for (const Column& column : columns_) names += (names.empty() ? "" : ", ") + column.name;
    return concat(size(), " samples with ", names);
  }

 private:
  void open(const std::string& path) {
    const SafetensorsFile& file = files_.emplace_back(path);
    std::vector<Column> columns;
    int64_t rows = -1;
    for (const SafetensorsEntry& entry : file.entries()) {
      const Shape& shape = entry.shape;
      ONDOL_CHECK(shape.ndim() >= 1, "cannot read samples: tensor \"", entry.name, "\" has no rows (", path, ")");
      if (rows < 0) rows = shape[0];
      ONDOL_CHECK(shape[0] == rows, "cannot read samples: tensor \"", entry.name, "\" has ", shape[0],
                  " rows, another has ", rows, " (", path, ")");
      columns.push_back({entry.name, Shape(std::span<const int64_t>(shape.begin() + 1, shape.end())),
                         batch_dtype(entry.name, entry.dtype)});
    }
    std::sort(columns.begin(), columns.end(), [](const Column& a, const Column& b) { return a.name < b.name; });
    ONDOL_CHECK(file.has("input_ids") && file.find("input_ids")->shape.ndim() == 2 &&
                    file.find("input_ids")->shape[1] > 0 && is_integer(file.find("input_ids")->dtype),
                "cannot read samples: no integer tensor \"input_ids\" of shape (rows, positions) (", path, ")");
    const auto same = [](const Column& a, const Column& b) {
      return a.name == b.name && a.row_shape == b.row_shape && a.dtype == b.dtype;
    };
    if (columns_.empty())
      columns_ = std::move(columns);
    else if (!std::equal(columns.begin(), columns.end(), columns_.begin(), columns_.end(), same)) {
      throw_error("cannot read samples: names, shapes or types differ from those of ", files_[0].path(), " (", path,
                  ")");
    }
    starts_.push_back(starts_.back() + rows);
  }

  void check(const Tensor& source, const Column& column, size_t file, int64_t row) const {
    if (column.dtype == DType::f32) return;
    if (column.dtype == DType::u8) {
      for (const int64_t value : source.to_vector<int64_t>()) {
        ONDOL_CHECK(value == 0 || value == 1, "cannot read samples: ", value, " in \"", column.name,
                    "\", it must be 0 or 1: row ", row, " (", files_[file].path(), ")");
      }
      return;
    }
    const bool ids = column.name == "input_ids" || column.name == "decoder_input_ids";
    const bool labels = column.name == "labels" && column.row_shape.ndim() == 1;
    const int64_t largest = std::numeric_limits<int32_t>::max();
    const int64_t limit = (ids || labels) && vocab_size_ > 0 ? vocab_size_ - 1 : largest;
    const int64_t lowest = ids ? 0 : -largest;
    for (const int64_t value : source.to_vector<int64_t>()) {
      if (labels && value == kIgnoreIndex) continue;
      ONDOL_CHECK(value >= (labels ? 0 : lowest) && value <= limit, "cannot read samples: ", value, " in \"",
                  column.name, "\" is outside [", labels ? 0 : lowest, ", ", limit, "]: row ", row, " (",
                  files_[file].path(), ")");
    }
  }

  std::vector<SafetensorsFile> files_;
  std::vector<int64_t> starts_ = {0};  // rows before each file
  std::vector<Column> columns_;        // sorted by name
  int64_t vocab_size_;
  int64_t begin_ = 0;
  int64_t end_ = 0;
};

}  // namespace

Tensor& batch_field(Batch& batch, const std::string& name) {
  if (name == "input_ids") return batch.input_ids;
  if (name == "labels") return batch.labels;
  if (name == "attention_mask") return batch.attention_mask;
  if (name == "position_ids") return batch.positions;
  if (Tensor* other = batch.find(name)) return *other;
  return batch.others.emplace_back(name, Tensor()).second;
}

std::unique_ptr<SampleSource> make_row_source(const std::vector<std::string>& paths, int64_t vocab_size,
                                              double begin_fraction, double end_fraction) {
  return std::make_unique<RowSource>(paths, vocab_size, begin_fraction, end_fraction);
}

}  // namespace ondol::detail
