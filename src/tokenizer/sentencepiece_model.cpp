#include "tokenizer/sentencepiece_model.h"

#include <ondol/base/error.h>

#include "tokenizer/protobuf_reader.h"

namespace ondol::tokenization {

namespace {

void read_piece(std::string_view bytes, const std::string& where, SentencePieceParts& parts) {
  std::string text;
  float score = 0;
  int64_t type = 1;
  for (ProtobufReader reader(bytes, where); reader.next();) {
    switch (reader.field()) {
      case 1:
        text = reader.bytes();
        break;
      case 2:
        score = reader.number();
        break;
      case 3:
        type = reader.integer();
        break;
      default:
        reader.skip();
    }
  }
  if (type < 1 || type > 6) throw UsageError(concat("piece type ", type, " is not known (", where, ")"));
  parts.tokens.push_back(std::move(text));
  parts.scores.push_back(score);
  parts.types.push_back(static_cast<PieceType>(type));
}

void read_trainer_spec(std::string_view bytes, const std::string& where, SentencePieceModel& model) {
  int64_t type = 1;
  for (ProtobufReader reader(bytes, where); reader.next();) {
    switch (reader.field()) {
      case 3:
        type = reader.integer();
        break;
      case 24:
        if (reader.boolean()) {
          throw UsageError(concat("\"treat_whitespace_as_suffix\" is not supported (", where, ")"));
        }
        break;
      case 40:
        model.unk_id = reader.integer();
        break;
      case 41:
        model.bos_id = reader.integer();
        break;
      case 42:
        model.eos_id = reader.integer();
        break;
      case 43:
        model.pad_id = reader.integer();
        break;
      case 44:
        model.unk_surface = reader.bytes();
        break;
      default:
        reader.skip();
    }
  }
  if (type != 1 && type != 2) {
    throw UsageError(concat("a SentencePiece model of type ",
                            type == 3   ? "word"
                            : type == 4 ? "char"
                                        : "unknown",
                            " is not supported (", where, ")"),
                     "supported: unigram, bpe");
  }
  model.parts.algorithm = type == 1 ? SentencePieceParts::Algorithm::unigram : SentencePieceParts::Algorithm::bpe;
}

void read_normalizer_spec(std::string_view bytes, const std::string& where, SentencePieceParts& parts) {
  for (ProtobufReader reader(bytes, where); reader.next();) {
    switch (reader.field()) {
      case 2:
        parts.character_map = reader.bytes();
        break;
      case 3:
        parts.add_dummy_prefix = reader.boolean();
        break;
      case 4:
        parts.remove_extra_whitespaces = reader.boolean();
        break;
      case 5:
        if (!reader.boolean()) {
          throw UsageError(concat("a normalizer without \"escape_whitespaces\" is not supported (", where, ")"));
        }
        break;
      default:
        reader.skip();
    }
  }
}

}  // namespace

SentencePieceModel read_sentencepiece_model(std::string_view bytes, const std::string& name) {
  SentencePieceModel model;
  model.parts.algorithm = SentencePieceParts::Algorithm::unigram;
  model.parts.remove_extra_whitespaces = true;  // the default of the format
  for (ProtobufReader reader(bytes, name); reader.next();) {
    switch (reader.field()) {
      case 1:
        read_piece(reader.bytes(), concat(name, ", piece ", model.parts.tokens.size()), model.parts);
        break;
      case 2:
        read_trainer_spec(reader.bytes(), name + ", trainer_spec", model);
        break;
      case 3:
        read_normalizer_spec(reader.bytes(), name + ", normalizer_spec", model.parts);
        break;
      default:
        reader.skip();
    }
  }
  if (model.parts.tokens.empty()) throw UsageError(concat("the model holds no pieces (", name, ")"));
  return model;
}

}  // namespace ondol::tokenization
