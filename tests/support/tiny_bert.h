// A BERT with random weights and a WordPiece vocabulary of a few words, made on the spot.
//
//   const TinyBert bert("BertForMaskedLM");
//   auto model = load_model(bert.path());  const Tokenizer tokenizer = load_tokenizer(bert.path());
#pragma once

#include <string>

#include <ondol/models/model.h>

#include "support/temporary_directory.h"

namespace ondol::testing {

class TinyBert {
 public:
  /// `more`: further keys of the configuration, as `, "num_labels": 3`.
  explicit TinyBert(const std::string& architecture, const std::string& more = "") {
    const std::string config =
        concat(R"({"model_type": "bert", "architectures": [")", architecture,
               R"("], "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 24, "max_position_embeddings": 16, "initializer_range": 0.4)",
               more, "}");
    save_model(*create_model(directory_.write("source.json", config), DType::f32, {}, 7), path());
    directory_.write("model/vocab.txt",
                     "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ncat\ndog\nsat\non\nmat\nlog\n##s\n.\nwho\nred\nblue\n"
                     "house\nis\nin\n");
    directory_.write("model/tokenizer_config.json",
                     R"({"tokenizer_class": "BertTokenizer", "do_lower_case": true, "mask_token": "[MASK]"})");
  }
  const TemporaryDirectory& directory() const { return directory_; }
  std::string path() const { return directory_ / "model"; }

 private:
  TemporaryDirectory directory_;
};

}  // namespace ondol::testing
