// Prefixes that a decoder attends to in both directions (Raffel et al. 2020, section 3.2.1), as ModelInput::prefix_ends
// has them.
#pragma once

#include <ondol/models/model_input.h>

namespace ondol {

/// The prefix ends (B, T) of an input on the host whose labels, where there are any, are shifted: a document (a row,
/// where there are no documents) is a prompt up to the first place that predicts a label, and whole without labels.
/// Padding behind it is in no prompt.
Tensor prompt_ends(const ModelInput& input);

/// Throws Error where a token sees less far than the one in front of it, which attention does not take.
void check_prefix_ends(const Tensor& prefix_ends);

}  // namespace ondol
