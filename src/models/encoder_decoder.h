// Encoder-decoders that predict a target token by token, or tell labels of a sequence: what is the same for all of
// them.
//
// A family derives from it, wires run_encoder() and run_decoder() and sets output_ in its constructor, or adds a head
// for labels. Such a head reads the decoder's state at the last end token of the text, which both stacks are given. In
// decoding the encoder runs once for each source (encode), and what cross-attention reads of it stands in the cache.
//
// Legend: B samples, T source positions, S target positions, C hidden size, H heads of D elements.
#pragma once

#include <optional>

#include <ondol/nn/cross_attention.h>

#include "models/family.h"
#include "models/label_head.h"

namespace ondol {

class EncoderDecoder : public FamilyModel {
 public:
  std::vector<InputSpec> inputs() const override;
  Variable hidden(const ModelInput& input, const ForwardContext& context) override;
  NamedOutputs forward(const ModelInput& input, const ForwardContext& context) override;
  std::vector<int64_t> count_targets(const ModelInput& prepared) const override;
  std::vector<Variable> losses(const ModelInput& prepared, const std::vector<LossScale>& scales,
                               const ForwardContext& context) override;
  OutputProjection output_projection() const override;
  TokenPredictions predict_tokens(const ModelInput& input, const ForwardContext& context) override;
  void encode(const Tensor& sources, const std::vector<int32_t>& lengths, KvCache& cache) override;

 protected:
  /// `family` is the prefix of its architectures' names, "" where it has none with labels.
  EncoderDecoder(const JsonReader& config, const std::string& family);
  /// classification_head: two products with tanh between them.
  void add_label_head(const Init& init);
  bool has_label_head() const { return info_.head == Head::sequence_classification; }
  /// A weight of the heads that this architecture has not.
  bool is_other_head(const std::string& name) const;

  /// Where the decoder's numbers of dropout sites begin.
  static constexpr uint32_t kDecoderSites = 1u << 14;

  /// The encoder's states (B, T, C) after its final norm; of a split model those of the own rows, (1, n, C).
  virtual Variable run_encoder(const Tensor& ids, const Tensor& attention_mask, const ForwardContext& context) = 0;
  /// Keys and values of a decoder layer's cross-attention, side by side (B, T, 2 H D). `rows` are those of the source.
  virtual Variable source_keys_values(int64_t layer, const Variable& encoded, const TokenRows& rows) = 0;
  /// The decoder's states (B, S, C) after its final norm, from decoder_input_ids; of a split model those of the own
  /// rows. `encoded` is undefined with a cache.
  virtual Variable run_decoder(const ModelInput& input, const Variable& encoded, const ForwardContext& context) = 0;

  /// Cross-attention of q (B, S, H D) on `encoded`, or on what the cache has of the source.
  Variable attend_source(const Variable& q, int64_t layer, const SelfAttentionSettings& settings,
                         const ModelInput& input, const Variable& encoded, const ForwardContext& context,
                         uint32_t site);

  /// The first decoder token of a row whose targets are given: decoder_start_token_id unless a family says otherwise.
  virtual int32_t start_token(std::span<const int32_t> labels) const;
  /// Makes decoder_input_ids from labels when they are missing: shifted right, ignored ones as padding.
  ModelInput complete(ModelInput input) const override;

  OutputProjection output_;

 private:
  /// hidden() of the own rows of target tokens.
  Variable own_hidden(const ModelInput& input, const ForwardContext& context);
  Variable head_scores(const Variable& h, const ModelInput& input, const ForwardContext& context) const;
  ModelInput complete_text(ModelInput input) const;
  void shift_right(std::vector<int32_t>& tokens, size_t length) const;

  LabelSet labels_;
  LabelHead label_head_;
};

}  // namespace ondol
