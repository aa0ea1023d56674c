// Marian (Junczys-Dowmunt et al. 2018; MarianMTModel): BART's layers with sinusoidal positions, which are in no file,
// and no norm of the embeddings.
//
//   h = tokens[ids] sqrt(C) + sinusoids[p]
//   layers and logits as in bart.cpp
#include "models/bart_model.h"

namespace ondol {

namespace {

class Marian final : public PostNormBart {
 public:
  explicit Marian(const JsonReader& reader) : PostNormBart(reader, BartConfig(reader)) {
    const BartConfig& c = config_values_;
    info_.architecture = "MarianMTModel";
    if (!reader.get<bool>("share_encoder_decoder_embeddings", true)) {
      reader.fail("share_encoder_decoder_embeddings", "false is not supported");
    }
    if (reader.get<int64_t>("decoder_vocab_size", c.vocab_size, at_least(1)) != c.vocab_size) {
      reader.fail("decoder_vocab_size", concat("must be the vocab_size ", c.vocab_size));
    }
    if (c.hidden_size % 2 != 0) reader.fail("d_model", "must be even");
    sinusoids_ = Sinusoids{.first = 0, .divisor = static_cast<double>(c.hidden_size / 2)};
    add_bart_weights({});
  }
};

}  // namespace

std::unique_ptr<FamilyModel> make_marian(const JsonReader& config) { return std::make_unique<Marian>(config); }

}  // namespace ondol
