#include "ops/output_rows.h"

#include <algorithm>
#include <vector>

#include <ondol/ops/embedding.h>

#include "backend/backend.h"

namespace ondol::ops {

Tensor CountingRows::gather(const Tensor& x) const { return kept.defined() ? embedding(x, kept) : x; }

Tensor CountingRows::gather_indices(const Tensor& x) const {
  if (!kept.defined()) return x;
  const int64_t width = x.numel() / x.size(0);
  std::vector<int32_t> chosen;
  for (const int32_t row : kept.to_vector<int32_t>()) {
    const int32_t* values = x.data<int32_t>() + row * width;
    chosen.insert(chosen.end(), values, values + width);
  }
  Shape shape = x.shape();
  shape.set(0, count());
  return Tensor::from_vector(chosen, shape);
}

Tensor CountingRows::spread(const Tensor& x) const {
  if (!places.defined()) return x;
  x.narrow(0, count(), 1).zero();
  return embedding(x, places);
}

CountingRows find_counting_rows(const Tensor& labels, int32_t ignore_index) {
  const int64_t rows = labels.numel();
  if (labels.device().type != DeviceType::cpu) return {labels.reshape({rows}), {}, {}};
  const int32_t* values = labels.data<int32_t>();
  std::vector<int32_t> kept, kept_labels, places(static_cast<size_t>(rows));
  for (int64_t i = 0; i < rows; ++i) {
    if (values[i] == ignore_index) continue;
    kept.push_back(static_cast<int32_t>(i));
    kept_labels.push_back(values[i]);
  }
  const int32_t count = static_cast<int32_t>(kept.size());
  if (count == rows) return {labels.reshape({rows}), {}, {}};
  std::fill(places.begin(), places.end(), count);
  for (int32_t i = 0; i < count; ++i) places[static_cast<size_t>(kept[static_cast<size_t>(i)])] = i;
  return {Tensor::from_vector(kept_labels, {count}), Tensor::from_vector(kept, {count}),
          Tensor::from_vector(places, {rows})};
}

int64_t default_chunk_rows(int64_t rows, int64_t vocab_size, Device device) {
  const auto bytes = static_cast<int64_t>(backend(device.type).chunk_bytes);
  const int64_t limit = std::max<int64_t>(bytes / (4 * vocab_size) / 64 * 64, 128);
  const int64_t chunks = std::max<int64_t>(1, (rows + limit - 1) / limit);
  return std::max<int64_t>(1, (rows + chunks - 1) / chunks);
}

}  // namespace ondol::ops
