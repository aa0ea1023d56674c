// How the flat buffers of what is trained are shared out among ranks.
//
//   const ShardLayout layout(model.parameters(), rank, ranks);
//   for (const ShardRange& range : layout.ranges()) reduce_scatter(range.begin, range.chunk);
//   for (const ShardPart& part : layout.parts()) update(part.begin, part.length, part.offset);
//
// The buffer is cut into ranges: one for each matrix, those of more than kPiece elements in several, and one for all
// vectors. In a range each rank owns `chunk` elements, whole blocks of ParameterStore::kBlock, one rank after the
// other. What is left at the end of a range, and all vectors, is replicated: every rank keeps it and computes the same
// for it. The layout follows from the store and the number of ranks alone. Places are elements of the flat buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <ondol/nn/parameter.h>

namespace ondol {

/// Elements [begin, end), of which rank r owns [begin + r chunk, begin + (r + 1) chunk).
struct ShardRange {
  int64_t begin = 0, end = 0;
  int64_t chunk = 0;
  int64_t replicated = 0;  // where the elements begin that all ranks keep; end: there are none
};

/// A stretch that one rank keeps: elements [begin, begin + length) of the flat buffer, which lie at `offset` in a
/// buffer that holds nothing but what this rank keeps.
struct ShardPart {
  int64_t begin = 0, length = 0, offset = 0;
  bool replicated = false;
  size_t range = 0;

  Tensor in_flat(const Tensor& flat) const { return flat.narrow(0, begin, length); }
  Tensor in_shard(const Tensor& shard) const { return shard.narrow(0, offset, length); }
};

class ShardLayout {
 public:
  static constexpr int64_t kPiece = 4 << 20;

  ShardLayout(const ParameterStore& store, int rank, int ranks);

  int rank() const { return rank_; }
  int ranks() const { return ranks_; }
  /// Rising, without gaps: together all of trainable_elements().
  const std::vector<ShardRange>& ranges() const { return ranges_; }
  /// What this rank keeps, rising in `begin` and in `offset`.
  const std::vector<ShardPart>& parts() const { return parts_; }
  int64_t flat_elements() const { return flat_elements_; }
  /// Elements of a buffer with what this rank keeps; of those that only this rank does.
  int64_t shard_elements() const { return shard_elements_; }
  int64_t own_elements() const { return own_elements_; }

  /// What this rank keeps of a flat tensor, as a copy.
  Tensor shard_of(const Tensor& flat) const;

 private:
  void add_ranges(int64_t begin, int64_t end);

  const int rank_, ranks_;
  std::vector<ShardRange> ranges_;
  std::vector<ShardPart> parts_;
  int64_t flat_elements_ = 0, shard_elements_ = 0, own_elements_ = 0;
};

}  // namespace ondol
