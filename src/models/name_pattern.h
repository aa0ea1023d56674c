// Patterns of dotted names: * and ? stand for any text and any one character, dots included.
//
//   name_matches("encoder.layer.0", "bert.encoder.layer.0.output.dense.weight")        // true
//   name_ends_with("q_proj", "model.layers.0.self_attn.q_proj")                         // true
#pragma once

#include <string>
#include <vector>

namespace ondol {

/// Whether some components of the name, in a row, match.
bool name_matches(const std::string& pattern, const std::string& name);
/// Whether the last components of the name, or all of them, match.
bool name_ends_with(const std::string& pattern, const std::string& name);

std::vector<std::string> name_components(const std::string& name);

}  // namespace ondol
