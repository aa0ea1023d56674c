// One batch of samples, on the CPU.
//
// Legend: B samples, T positions.
//   input_ids    (B, T) i32
//   labels       (B, T) i32, the target OF each position, -100 where there is none. From text: the next token of the
//                same document (already shifted). From .safetensors rows: as the file has them (labels_shifted is
//                false), any shape, f32 for regression.
//   attention_mask (B, T) u8, 0 at padding; undefined when every token counts
//   document_ids (B, T) i32, 0, 1, … within a row, -1 at padding; undefined when attention may cross documents
//   positions    (B, T) i32, from 0 in each document; undefined when they are 0 … T-1
//   others       further tensors of .safetensors rows under the names of the file, first dimension B; integers are i32,
//                masks (`*_mask` of integers) u8, floats f32
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ondol/base/ignore_index.h>
#include <ondol/tensor/tensor.h>

namespace ondol {

struct Batch {
  Tensor input_ids;
  Tensor labels;
  Tensor attention_mask;
  Tensor document_ids;
  Tensor positions;
  std::vector<std::pair<std::string, Tensor>> others;
  bool labels_shifted = true;
  int64_t first_sample = 0;  // global number of the first row

  int64_t size() const { return input_ids.defined() ? input_ids.size(0) : 0; }
  /// One of `others`; null when there is none of that name.
  const Tensor* find(std::string_view name) const;
  Tensor* find(std::string_view name);

  /// Labels other than -100; 0 when there are none or they are not integers.
  int64_t count_targets() const;
  /// Tokens that are not padding; those of decoder_input_ids, too.
  int64_t count_tokens() const;
  /// Views of rows [begin, begin + count), as a micro-batch.
  Batch rows(int64_t begin, int64_t count) const;
};

/// Every row position by position: token, label, mask, document, position, as the model gets them. `token_text` may
/// turn ids into text.
std::string describe_batch(const Batch& batch, const std::function<std::string(int32_t)>& token_text = {});

}  // namespace ondol
