// Runs a template.
#pragma once

#include "generate/jinja/syntax.h"

namespace ondol::jinja {

struct RenderError {
  std::string what;
  int line;
};

/// Throws RenderError: for a failure in the template, text beyond 64 MiB, or more than two million steps.
std::string render(const Block& block, const Dict& variables);

}  // namespace ondol::jinja
