// Flags that say how tokens are chosen, for every verb that generates.
#pragma once

#include <optional>

#include <CLI/App.hpp>

#include <ondol/generate/generate.h>

struct GenerateFlags {
  ondol::GenerateOptions options;
  std::optional<float> temperature;

  void add_to(CLI::App* verb);
  /// The options, with the temperature that `unset` stands for when none was given: any other flag of sampling means 1.
  ondol::GenerateOptions resolve(float unset) const;
};
