#include "tokenizer/decoder.h"

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/byte_alphabet.h"

namespace ondol::tokenization {

namespace {

class ByteLevel : public Decoder {
 public:
  void append(std::string_view token, bool, std::string& out) const override {
    std::string bytes;
    out += from_byte_alphabet(token, bytes) ? std::string_view(bytes) : token;
  }
};

}  // namespace

std::unique_ptr<Decoder> make_decoder(const Json& spec, const std::string& file) {
  const std::string where = file + ", decoder";
  if (spec.is_null()) throw UsageError(concat("no decoder given (", where, ")"));
  const std::string type = string_at(spec, "type", where);
  if (type == "ByteLevel") return std::make_unique<ByteLevel>();
  if (type == "Sequence") {
    const Json& list = array_at(spec, "decoders", where);
    if (list.size() == 1) return make_decoder(list[0], file);
  }
  throw UsageError(concat("decoder type \"", type, "\" is not supported (", where, ")"));
}

}  // namespace ondol::tokenization
