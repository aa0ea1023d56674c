// The rotary settings of Hugging Face configs, in the spellings of transformers 4.x (rope_theta, rope_scaling) and 5.x
// (rope_parameters).
#pragma once

#include <ondol/ops/rope.h>

#include "base/json_reader.h"

namespace ondol {

/// Reads either spelling. Throws on a rope type other than default, linear, llama3.
RopeConfig read_rope_config(const JsonReader& config, int64_t head_dim, int64_t max_positions);

/// Writes both spellings.
void write_rope_config(Json& config, const RopeConfig& rope);

}  // namespace ondol
