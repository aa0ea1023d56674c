#include "train/shard_layout.h"

#include <algorithm>

namespace ondol {

ShardLayout::ShardLayout(const ParameterStore& store, int rank, int ranks)
    : rank_(rank), ranks_(ranks), flat_elements_(store.trainable_elements()) {
  ONDOL_CHECK(rank >= 0 && rank < ranks, "there is no rank ", rank, " of ", ranks);
  std::vector<int64_t> begins;
  for (const ParameterStore::Entry& entry : store.entries()) {
    if (entry.trainable && entry.shape.ndim() >= 2 && entry.shape.numel() > 0) begins.push_back(entry.offset);
  }
  std::sort(begins.begin(), begins.end());
  for (size_t i = 0; i < begins.size(); ++i) {
    add_ranges(begins[i], i + 1 < begins.size() ? begins[i + 1] : store.matrix_elements());
  }
  if (store.matrix_elements() < flat_elements_) {
    ranges_.push_back({store.matrix_elements(), flat_elements_, 0, store.matrix_elements()});
  }
  const auto keep = [&](int64_t begin, int64_t length, bool replicated, size_t range) {
    if (length == 0) return;
    parts_.push_back({begin, length, shard_elements_, replicated, range});
    shard_elements_ += length;
    own_elements_ += replicated ? 0 : length;
  };
  for (size_t i = 0; i < ranges_.size(); ++i) {
    const ShardRange& range = ranges_[i];
    keep(range.begin + rank_ * range.chunk, range.chunk, false, i);
    keep(range.replicated, range.end - range.replicated, true, i);
  }
}

void ShardLayout::add_ranges(int64_t begin, int64_t end) {
  for (; begin < end; begin += kPiece) {
    ShardRange range{begin, std::min(begin + kPiece, end), 0, 0};
    const int64_t blocks = (range.end - range.begin) / ParameterStore::kBlock;
    range.chunk = blocks / ranks_ * ParameterStore::kBlock;
    range.replicated = range.begin + ranks_ * range.chunk;
    ranges_.push_back(range);
  }
}

Tensor ShardLayout::shard_of(const Tensor& flat) const {
  const Tensor shard = Tensor::empty({shard_elements_}, flat.dtype(), flat.device());
  for (const ShardPart& part : parts_) part.in_shard(shard).copy_from(part.in_flat(flat));
  return shard;
}

}  // namespace ondol
