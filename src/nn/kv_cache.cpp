#include <ondol/nn/kv_cache.h>

#include <algorithm>
#include <utility>

#include <ondol/ops/attention.h>

#include "tensor/transfer.h"

namespace ondol {

KvCache::KvCache(const Sizes& sizes, DType dtype, Device device)
    : sizes_(sizes),
      lengths_(static_cast<size_t>(sizes.batch), 0),
      new_tokens_(lengths_),
      query_starts_(Tensor::zeros({sizes.batch}, DType::i32, device)),
      kv_lengths_(Tensor::zeros({sizes.batch}, DType::i32, device)),
      decode_positions_(Tensor::zeros({sizes.batch, 1}, DType::i32, device)) {
  for (int64_t layer = 0; layer < sizes.layers; ++layer) {
    const Shape shape{sizes.batch, sizes.capacity, sizes.kv_heads, sizes.head_dim};
    keys_.push_back(Tensor::empty(shape, dtype, device));
    values_.push_back(Tensor::empty(shape, dtype, device));
  }
}

void KvCache::begin_step(const std::vector<int32_t>& new_tokens) {
  ONDOL_CHECK(new_tokens.size() == lengths_.size(), "[kv_cache] ", new_tokens.size(),
              " sequences announced, the cache "
              "has ",
              lengths_.size());
  std::vector<int32_t> ends = lengths_;
  for (size_t b = 0; b < ends.size(); ++b) {
    ONDOL_CHECK(new_tokens[b] >= 0 && new_tokens[b] <= sizes_.capacity - ends[b], "[kv_cache] ", new_tokens[b],
                " more tokens for sequence ", b, " of ", ends[b], ": the cache holds ", sizes_.capacity);
    ends[b] += new_tokens[b];
  }
  upload(query_starts_, Tensor::from_vector(lengths_, {sizes_.batch}));
  upload(kv_lengths_, Tensor::from_vector(ends, {sizes_.batch}));
  max_length_ = ends.empty() ? 0 : *std::max_element(ends.begin(), ends.end());
  new_tokens_ = new_tokens;
  upload_positions();
}

/// Behind a row's own tokens stands padding; its position only has to be valid.
void KvCache::upload_positions() {
  int64_t length = 1;
  for (const int32_t count : new_tokens_) length = std::max<int64_t>(length, count);
  std::vector<int32_t> positions;
  positions.reserve(lengths_.size() * static_cast<size_t>(length));
  for (const int32_t start : lengths_) {
    for (int64_t t = 0; t < length; ++t) {
      positions.push_back(static_cast<int32_t>(std::min<int64_t>(start + t, sizes_.capacity - 1)));
    }
  }
  const Device device = decode_positions_.device();
  positions_ = length == 1 ? decode_positions_ : Tensor::empty({sizes_.batch, length}, DType::i32, device);
  upload(positions_, Tensor::from_vector(positions, {sizes_.batch, length}));
}

int64_t KvCache::reach() const {
  return std::min((max_length_ + kReachStep - 1) / kReachStep * kReachStep, sizes_.capacity);
}

void KvCache::append(int64_t layer, const Tensor& keys, const Tensor& values) {
  ONDOL_CHECK(layer >= 0 && layer < sizes_.layers, "[kv_cache] no layer ", layer, " of ", sizes_.layers);
  const size_t l = static_cast<size_t>(layer);
  const DType dtype = keys_[l].dtype();
  ops::append_to_cache(keys_[l], values_[l], keys.to(dtype), values.to(dtype), query_starts_, kv_lengths_);
}

void KvCache::end_step() {
  for (size_t b = 0; b < lengths_.size(); ++b) lengths_[b] += new_tokens_[b];
  std::fill(new_tokens_.begin(), new_tokens_.end(), 0);
}

namespace {

struct RowCopy {
  int64_t from, to;
};

/// Copies that bring row sources[b] to every b, one after the other, without losing a row that is still wanted: rows
/// that stay are left alone, and a cycle takes one row aside, to place sources.size().
std::vector<RowCopy> plan_copies(std::vector<int32_t> sources) {
  const size_t rows = sources.size();
  std::vector<int> readers(rows + 1, 0);
  std::vector<size_t> pending;
  for (size_t b = 0; b < rows; ++b) {
    if (static_cast<size_t>(sources[b]) == b) continue;
    pending.push_back(b);
    ++readers[static_cast<size_t>(sources[b])];
  }
  std::vector<RowCopy> copies;
  while (!pending.empty()) {
    const auto free_row = std::find_if(pending.begin(), pending.end(), [&](size_t b) { return readers[b] == 0; });
    if (free_row == pending.end()) {  // only cycles are left, and the place aside is free
      const size_t b = pending.front();
      copies.push_back({static_cast<int64_t>(b), static_cast<int64_t>(rows)});
      for (const size_t other : pending) {
        if (static_cast<size_t>(sources[other]) == b) sources[other] = static_cast<int32_t>(rows);
      }
      readers[rows] += std::exchange(readers[b], 0);
      continue;
    }
    copies.push_back({sources[*free_row], static_cast<int64_t>(*free_row)});
    --readers[static_cast<size_t>(sources[*free_row])];
    pending.erase(free_row);
  }
  return copies;
}

}  // namespace

void KvCache::reorder(const std::vector<int32_t>& sources) {
  ONDOL_CHECK(sources.size() == lengths_.size(), "[kv_cache] reorder needs ", lengths_.size(), " sources");
  std::vector<int32_t> reordered;
  for (const int32_t source : sources) {
    ONDOL_CHECK(source >= 0 && source < sizes_.batch, "[kv_cache] no sequence ", source);
    reordered.push_back(lengths_[static_cast<size_t>(source)]);
  }
  const int64_t longest = reordered.empty() ? 0 : *std::max_element(reordered.begin(), reordered.end());
  const std::vector<RowCopy> copies = plan_copies(sources);
  const bool aside = std::any_of(copies.begin(), copies.end(), [&](RowCopy c) { return c.to == sizes_.batch; });
  for (std::vector<Tensor>* side : {&keys_, &values_}) {
    for (Tensor& cached : *side) {
      const Tensor spare =
          aside ? Tensor::empty({longest, sizes_.kv_heads, sizes_.head_dim}, cached.dtype(), cached.device())
                : Tensor();
      const auto row = [&](int64_t b) { return b == sizes_.batch ? spare : cached.select(0, b).narrow(0, 0, longest); };
      for (const RowCopy& copy : copies) row(copy.to).copy_from(row(copy.from));
    }
  }
  lengths_ = reordered;
}

void KvCache::truncate(int64_t sequence, int32_t length) {
  ONDOL_CHECK(sequence >= 0 && sequence < sizes_.batch, "[kv_cache] no sequence ", sequence);
  int32_t& current = lengths_[static_cast<size_t>(sequence)];
  ONDOL_CHECK(length >= 0 && length <= current, "[kv_cache] cannot truncate ", current, " tokens to ", length);
  current = length;
}

}  // namespace ondol
