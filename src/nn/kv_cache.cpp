#include <ondol/nn/kv_cache.h>

#include <algorithm>

namespace ondol {

KvCache::KvCache(const Sizes& sizes, DType dtype, Device device)
    : sizes_(sizes), lengths_(static_cast<size_t>(sizes.batch), 0), new_tokens_(lengths_) {
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
  const Device device = keys_.empty() ? Device{} : keys_[0].device();
  query_starts_ = Tensor::from_vector(lengths_, {sizes_.batch}, device);
  kv_lengths_ = Tensor::from_vector(ends, {sizes_.batch}, device);
  max_length_ = ends.empty() ? 0 : *std::max_element(ends.begin(), ends.end());
  new_tokens_ = new_tokens;
}

void KvCache::append(int64_t layer, const Tensor& keys, const Tensor& values) {
  ONDOL_CHECK(layer >= 0 && layer < sizes_.layers, "[kv_cache] no layer ", layer, " of ", sizes_.layers);
  const size_t l = static_cast<size_t>(layer);
  for (int64_t b = 0; b < sizes_.batch; ++b) {
    const int64_t count = new_tokens_[static_cast<size_t>(b)];
    const int64_t start = lengths_[static_cast<size_t>(b)];
    if (count == 0) continue;
    keys_[l].select(0, b).narrow(0, start, count).copy_from(keys.select(0, b).narrow(0, 0, count));
    values_[l].select(0, b).narrow(0, start, count).copy_from(values.select(0, b).narrow(0, 0, count));
  }
}

void KvCache::end_step() {
  for (size_t b = 0; b < lengths_.size(); ++b) lengths_[b] += new_tokens_[b];
  std::fill(new_tokens_.begin(), new_tokens_.end(), 0);
}

Tensor KvCache::positions(int64_t length) const {
  std::vector<int32_t> positions;
  positions.reserve(lengths_.size() * static_cast<size_t>(length));
  for (const int32_t start : lengths_) {
    for (int64_t t = 0; t < length; ++t) {
      // Behind a row's own tokens stands padding; its position only has to be valid.
      positions.push_back(static_cast<int32_t>(std::min<int64_t>(start + t, sizes_.capacity - 1)));
    }
  }
  return Tensor::from_vector(positions, {sizes_.batch, length}, keys_.empty() ? Device{} : keys_[0].device());
}

void KvCache::reorder(const std::vector<int32_t>& sources) {
  ONDOL_CHECK(sources.size() == lengths_.size(), "[kv_cache] reorder needs ", lengths_.size(), " sources");
  std::vector<int32_t> reordered;
  int32_t longest = 0;
  for (const int32_t source : sources) {
    ONDOL_CHECK(source >= 0 && source < sizes_.batch, "[kv_cache] no sequence ", source);
    reordered.push_back(lengths_[static_cast<size_t>(source)]);
    longest = std::max(longest, reordered.back());
  }
  for (std::vector<Tensor>* side : {&keys_, &values_}) {
    for (Tensor& cached : *side) {
      const Tensor before = cached.narrow(1, 0, longest).clone();
      for (int64_t b = 0; b < sizes_.batch; ++b) {
        const int64_t source = sources[static_cast<size_t>(b)];
        if (source != b) cached.select(0, b).narrow(0, 0, longest).copy_from(before.select(0, source));
      }
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
