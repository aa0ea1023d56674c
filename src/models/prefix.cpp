#include "models/prefix.h"

#include <algorithm>
#include <vector>

#include <ondol/base/error.h>
#include <ondol/base/ignore_index.h>

namespace ondol {

Tensor prompt_ends(const ModelInput& input) {
  const Shape shape = input.input_ids.shape();
  const int64_t length = shape[1];
  const auto count = static_cast<size_t>(shape.numel());
  const std::vector<int32_t> labels =
      input.labels.defined() ? input.labels.to_vector<int32_t>() : std::vector<int32_t>(count, kIgnoreIndex);
  const std::vector<int32_t> documents =
      input.documents.defined() ? input.documents.to_vector<int32_t>() : std::vector<int32_t>(count, 0);
  const std::vector<uint8_t> mask =
      input.attention_mask.defined() ? input.attention_mask.to_vector<uint8_t>() : std::vector<uint8_t>(count, 1);
  std::vector<int32_t> ends(count, 0);
  for (int64_t row = 0; row < shape[0]; ++row) {
    const auto at = [&](int64_t t) { return static_cast<size_t>(row * length + t); };
    for (int64_t begin = 0, end = 0; begin < length; begin = end) {
      int64_t prompt = begin;  // behind it
      bool ended = false;
      for (end = begin; end < length && documents[at(end)] == documents[at(begin)]; ++end) {
        if (ended || mask[at(end)] == 0) continue;
        prompt = end + 1;
        ended = labels[at(end)] != kIgnoreIndex;
      }
      std::fill_n(ends.begin() + row * length + begin, prompt - begin, static_cast<int32_t>(prompt));
    }
  }
  return Tensor::from_vector(ends, shape);
}

void check_prefix_ends(const Tensor& prefix_ends) {
  const std::vector<int32_t> ends = prefix_ends.to_vector<int32_t>();
  const int64_t length = prefix_ends.size(1);
  for (int64_t row = 0; row < prefix_ends.size(0); ++row) {
    int64_t before = 0;
    for (int64_t t = 0; t < length; ++t) {
      const int64_t end = std::max<int64_t>(t + 1, ends[static_cast<size_t>(row * length + t)]);
      if (end < before) {
        throw Error(concat("input does not fit the model: \"prefix_ends\" of row ", row, ": token ", t,
                           " sees the tokens before ", end, ", the one in front of it those before ", before),
                    "all tokens of a prefix have the position where it ends, all others 0");
      }
      before = end;
    }
  }
}

}  // namespace ondol
