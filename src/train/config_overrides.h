// --set a.b.c=VALUE
#pragma once

#include <string>

#include "base/json_reader.h"

namespace ondol {

/// Writes one override into the document. Objects on the way are made when missing; a number names an element of an
/// array (its length names a new one). Throws UsageError.
void apply_override(Json& document, const std::string& text);

}  // namespace ondol
