// Numbered samples of one source, of one of four kinds.
#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <ondol/data/data_loader.h>
#include <ondol/data/token_file.h>

#include "data/record_encoder.h"
#include "data/record_reader.h"

namespace ondol::detail {

/// The longest of the rows of a batch, where samples have lengths of their own: of inputs, and of targets beside them.
struct RowLengths {
  std::array<int64_t, 2> longest{};
  void include(const RowLengths& other) {
    for (size_t i = 0; i < longest.size(); ++i) longest[i] = std::max(longest[i], other.longest[i]);
  }
};

class SampleSource {
 public:
  virtual ~SampleSource() = default;
  virtual int64_t size() const = 0;
  /// A later epoch has other samples: read() is then given epoch * size() + the number within the epoch.
  virtual bool changes_each_epoch() const { return false; }
  /// Of sample `index`; nothing where all samples are of one size.
  virtual RowLengths lengths(int64_t /*index*/) const { return {}; }
  /// An empty batch of `rows` samples of up to these lengths; one of these is filled from all sources of a mixture.
  virtual Batch allocate(int64_t rows, const RowLengths& lengths) const = 0;
  /// Writes sample `index` into row `row` of a batch that a source of the same layout has allocated.
  virtual void read(int64_t index, Batch& batch, int64_t row) const = 0;
  /// Sources of one mixture must have equal layouts.
  virtual std::string layout() const = 0;
  virtual std::string describe() const = 0;
  /// Where sample `index` comes from; nothing is known of samples cut from tokens.
  virtual SampleOrigin origin(int64_t /*index*/) const { return {}; }
};

/// The tensor of a batch that a model's input stands for; new ones are kept in the order in which they are asked for.
Tensor& batch_field(Batch& batch, const std::string& name);

struct TokenSettings {
  int64_t sequence_length = 0;
  bool document_mask = true;
  int32_t pad_id = 0;
};

/// A part of several token files, read as one stream.
class TokenStream {
 public:
  explicit TokenStream(std::vector<std::shared_ptr<const TokenFile>> files);
  int64_t size() const { return end_ - begin_; }
  /// Part [begin, end) of this one.
  TokenStream slice(int64_t begin, int64_t end) const;
  /// First token of the document that holds the token (0 for one that began before this part).
  int64_t document_start(int64_t token) const;
  /// End of the document that holds the token.
  int64_t document_end(int64_t token) const;
  void read(int64_t begin, int64_t count, int32_t* ids) const;
  int64_t count_documents() const;

  /// Tokens [begin, end) of a file, of which this part has some.
  struct FilePart {
    const TokenFile* file;
    int64_t begin, end;
  };
  std::vector<FilePart> parts() const;

 private:
  size_t file_at(int64_t absolute) const;

  std::vector<std::shared_ptr<const TokenFile>> files_;
  std::vector<int64_t> starts_;  // absolute number of the first token of each file, and the end
  int64_t begin_ = 0;
  int64_t end_ = 0;
};

std::unique_ptr<SampleSource> make_packed_source(TokenStream stream, const TokenSettings& settings);
std::unique_ptr<SampleSource> make_document_source(TokenStream stream, const TokenSettings& settings);
/// Rows [begin, end) of the files one after another, as fractions of all of them.
std::unique_ptr<SampleSource> make_row_source(const std::vector<std::string>& paths, int64_t vocab_size,
                                              double begin_fraction, double end_fraction);

struct RecordSourceSettings {
  RecordSettings reading;
  const RecordEncoder* encoder = nullptr;
  bool packing = false;
  int64_t sequence_length = 0;
  double begin_fraction = 0, end_fraction = 1;  // of all examples
};
/// Structured examples, encoded. Throws Error naming file and line of the first one that cannot be used.
std::unique_ptr<SampleSource> make_record_source(const std::vector<RecordFile>& files,
                                                 const RecordSourceSettings& settings);

}  // namespace ondol::detail
