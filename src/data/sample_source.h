// Numbered samples of one source, of one of three kinds.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <ondol/data/batch.h>
#include <ondol/data/token_file.h>

namespace ondol::detail {

class SampleSource {
 public:
  virtual ~SampleSource() = default;
  virtual int64_t size() const = 0;
  /// An empty batch of `rows` samples; one of these is filled from all sources of a mixture.
  virtual Batch allocate(int64_t rows) const = 0;
  /// Writes sample `index` into row `row` of a batch that a source of the same layout has allocated.
  virtual void read(int64_t index, Batch& batch, int64_t row) const = 0;
  /// Sources of one mixture must have equal layouts.
  virtual std::string layout() const = 0;
  virtual std::string describe() const = 0;
};

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

}  // namespace ondol::detail
