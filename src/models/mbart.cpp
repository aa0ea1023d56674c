// mBART (Liu et al. 2020; MBartForConditionalGeneration, MBartForSequenceClassification): BART with the norm at the
// beginning of each branch and a last one at the end of both stacks. A target begins with what it ends with, the token
// of its language.
//
//   h = norm(tokens[ids] + positions[p + 2])
//   h = h + branch(norm(h)) for self-attention, cross-attention (decoder) and fc2(gelu(fc1)), per layer
//   logits = norm(h) shared^T + final_logits_bias
#include <algorithm>

#include "models/bart_model.h"

namespace ondol {

namespace {

class MBart final : public PreNormBart {
 public:
  explicit MBart(const JsonReader& reader) : PreNormBart(reader, BartConfig(reader), "MBart") {
    if (!has_label_head()) info_.architecture = "MBartForConditionalGeneration";
    if (has_label_head() && info_.eos_token_ids.empty()) info_.eos_token_ids = {2};
    add_bart_weights({.of_embeddings = true, .final = true});
  }

 protected:
  /// The last label that is not padding.
  int32_t start_token(std::span<const int32_t> labels) const override {
    const auto counts = [this](int32_t label) { return label != kIgnoreIndex && label != info_.pad_token_id; };
    const auto last = std::find_if(labels.rbegin(), labels.rend(), counts);
    return last != labels.rend()           ? *last
           : labels.back() == kIgnoreIndex ? info_.pad_token_id.value_or(0)
                                           : labels.back();
  }
};

}  // namespace

std::unique_ptr<FamilyModel> make_mbart(const JsonReader& config) { return std::make_unique<MBart>(config); }

}  // namespace ondol
