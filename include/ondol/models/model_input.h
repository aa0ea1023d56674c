// What models are given, and what each of them takes.
//
//   ModelInput input;
//   input.input_ids = Tensor::from_vector(ids, {2, 7});
//   input.labels = ...;                                     // on the host, as Hugging Face models take them
//   const ModelInput ready = model.prepare(input).to(model.device());
//
// Legend: B samples, T positions, S positions of a decoder beside an encoder.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <ondol/ops/attention.h>
#include <ondol/tensor/tensor.h>

namespace ondol {

/// One batch. Everything but input_ids may be undefined; integers are i32, masks u8, 0 hides a token from the others.
struct ModelInput {
  Tensor input_ids;               // (B, T)
  Tensor attention_mask;          // (B, T) u8
  Tensor token_type_ids;          // (B, T); default 0
  Tensor positions;               // (B, T), "position_ids"; default 0, 1, 2, ..., or what the family counts
  Tensor documents;               // (B, T); attention stays inside one document
  Tensor prefix_ends;             // (B, T), decoders: position where the prefix that a token belongs to, and that is
                                  // attended to in both directions, ends; 0: none (AttentionOptions::prefix_ends)
  Tensor decoder_input_ids;       // (B, S)
  Tensor decoder_attention_mask;  // (B, S) u8

  // What the outputs are compared with; which of them, and in which shapes, Model::inputs() says.
  Tensor labels;                          // f32 for regression and several labels at once, else i32
  Tensor next_sentence_label;             // (B)
  Tensor sentence_order_label;            // (B)
  Tensor start_positions, end_positions;  // (B)

  // Made by Model::prepare of few labels among many positions: where they stand and what they are, (B, P), so that a
  // masked language model's head sees no other position. Places without a label are position 0 and kIgnoreIndex.
  Tensor target_positions, target_labels;

  /// Instead of padding: input_ids and all that goes with them are (1, N), the sequences one after the other.
  SequenceOffsets sequences;
  /// labels[b, t] is what position t predicts already, not the token that stands there.
  bool labels_shifted = false;

  /// The tensor of a Hugging Face name; null when there is no input of that name.
  Tensor* find(std::string_view name);
  const Tensor* find(std::string_view name) const;
  /// Every name that find knows of tensors that are given, and of those that Model::prepare adds.
  static const std::vector<std::string>& names();
  static const std::vector<std::string>& prepared_names();

  /// Contiguous, on a device.
  ModelInput to(Device device) const;
};

/// One input that a model takes. A name that occurs twice may have either form.
struct InputSpec {
  enum Role { needed, optional, target };
  static constexpr int64_t kBatch = -1, kLength = -2, kTargetLength = -3;

  std::string name;
  std::vector<int64_t> shape;  // sizes, or the constants above
  DType dtype = DType::i32;    // i32, u8 (a mask) or f32
  int64_t limit = 0;           // integers lie in [0, limit); 0: they may be any
  bool ignorable = false;      // ... or are kIgnoreIndex
  Role role = optional;
};

/// The form of an input that fits a tensor best, by kind of number, then by rank; null when the model takes none of
/// that name.
const InputSpec* find_spec(const std::vector<InputSpec>& specs, const std::string& name, const Tensor& tensor);

}  // namespace ondol
