// BART (Lewis et al. 2020; BartForConditionalGeneration, BartForSequenceClassification): the first Transformer's layers
// (norm after each residual sum) with GELU, learned positions, a norm of the embeddings, and an output tied to them.
//
//   h = norm(tokens[ids] + positions[p + 2])
//   h = norm(h + out_proj(attention(q h, k h, v h)))
//   h = norm(h + out_proj(attention(q h, k encoded, v encoded)))     decoder only
//   h = norm(h + fc2(gelu(fc1 h)))                                   per layer
//   logits = h shared^T + final_logits_bias
#include "models/bart_model.h"

namespace ondol {

namespace {

class Bart final : public PostNormBart {
 public:
  explicit Bart(const JsonReader& reader) : PostNormBart(reader, BartConfig(reader), "Bart") {
    if (!has_label_head()) info_.architecture = "BartForConditionalGeneration";
    if (has_label_head() && info_.eos_token_ids.empty()) info_.eos_token_ids = {2};
    if (!info_.decoder_start_token_id) info_.decoder_start_token_id = 2;
    add_bart_weights({.of_embeddings = true, .final = false});
  }
};

}  // namespace

std::unique_ptr<FamilyModel> make_bart(const JsonReader& config) { return std::make_unique<Bart>(config); }

}  // namespace ondol
