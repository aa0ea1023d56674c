// The steps that decoders are made of.
#pragma once

#include "tokenizer/decoder.h"

namespace ondol::tokenization {

/// The maker of the step of this type; empty for a type that is not supported. The specification is checked here.
StepMaker make_decode_step(const std::string& type, const Json& spec, const std::string& where);
/// Spaces between the tokens.
StepMaker make_join_step();

}  // namespace ondol::tokenization
