// Runs a template.
#pragma once

#include "generate/jinja/syntax.h"

namespace ondol::jinja {

struct RenderError {
  std::string what;
  int line;
};

struct Rendered {
  std::string text;
  std::vector<std::pair<size_t, size_t>> generated;  // begin and end of what {% generation %} blocks gave, in order
};

/// Throws RenderError: for a failure in the template, text beyond 64 MiB, or more than two million steps.
Rendered render(const Block& block, const Dict& variables);

}  // namespace ondol::jinja
