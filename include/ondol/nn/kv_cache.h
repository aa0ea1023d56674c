// Keys and values of the positions that a decoder has already read.
//
//   KvCache cache({.layers = 12, .batch = 2, .capacity = 1024, .kv_heads = 4, .head_dim = 64}, dtype, device);
//   cache.begin_step({5, 3});                             // the next forward brings 5 and 3 new tokens
//   ... model forward writes each layer ...
//   cache.end_step();                                     // lengths grow
//
// Sequences of a batch may have different lengths: each starts at position 0 and grows on its own, so that padding is
// never stored or seen.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include <ondol/tensor/tensor.h>

namespace ondol {

/// What cross-attention reads of the encoder: computed once for each source, and the same for all steps.
struct CrossKeyValues {
  std::vector<Tensor> layers;  // (sources, S, 2 Hkv D) of each layer: keys, values side by side
  Tensor lengths;              // (sources) i32: the tokens of each source; what stands behind them is not seen
};

class KvCache {
 public:
  struct Sizes {
    int64_t layers = 0, batch = 0, capacity = 0, kv_heads = 0, head_dim = 0;
  };

  KvCache(const Sizes& sizes, DType dtype, Device device);

  const Sizes& sizes() const { return sizes_; }
  /// Valid positions of each sequence.
  const std::vector<int32_t>& lengths() const { return lengths_; }

  /// Announces new_tokens[b] tokens for each sequence. Throws when the capacity does not hold them.
  void begin_step(const std::vector<int32_t>& new_tokens);
  /// Stores keys and values (B, T, Hkv, D) of one layer; only the announced tokens of each row count.
  void append(int64_t layer, const Tensor& keys, const Tensor& values);
  void end_step();

  /// (B, capacity, Hkv, D) of one layer.
  const Tensor& keys(int64_t layer) const { return keys_[static_cast<size_t>(layer)]; }
  const Tensor& values(int64_t layer) const { return values_[static_cast<size_t>(layer)]; }
  /// During a step: key position of the first new token (B), valid keys with the new ones (B), and their maximum. The
  /// tensors keep their place, so that a captured step reads those of the step it is replayed for.
  const Tensor& query_starts() const { return query_starts_; }
  const Tensor& kv_lengths() const { return kv_lengths_; }
  int64_t max_length() const { return max_length_; }
  /// Keys that attention is shown: max_length() rounded up to a multiple of kReachStep, at most the capacity. It is a
  /// size and so part of the shape of a step; it grows rarely.
  int64_t reach() const;
  static constexpr int64_t kReachStep = 256;
  /// Positions (B, T) i32 of the new tokens; T is the largest number announced, or 1. For T == 1 they keep their place.
  const Tensor& positions() const { return positions_; }

  /// Of encoder-decoders: the encoded sources. Sequence b belongs to source b / (batch / number of sources), so beams
  /// of a source share its keys and values, and sequences may only be reordered within their source.
  void set_source(CrossKeyValues source) { source_ = std::move(source); }
  const CrossKeyValues& source() const { return source_; }

  /// Keeps the sequences `sources` in this order (beams); sizes().batch of them.
  void reorder(const std::vector<int32_t>& sources);
  /// Forgets the tokens of sequence b from `length` on.
  void truncate(int64_t sequence, int32_t length);

 private:
  void upload_positions();

  Sizes sizes_;
  std::vector<Tensor> keys_, values_;
  std::vector<int32_t> lengths_, new_tokens_;
  Tensor query_starts_, kv_lengths_;
  CrossKeyValues source_;
  Tensor positions_, decode_positions_;  // of this step; the place for T == 1
  int64_t max_length_ = 0;
};

}  // namespace ondol
