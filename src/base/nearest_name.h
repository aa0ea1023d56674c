// "Did you mean …?" for keys, verbs and enum values.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ondol {

/// Least number of single-character insertions, deletions, replacements and swaps of neighbours between two strings.
size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate nearest to `name`, or "" when none is near enough to be meant (at most a third of it wrong, at least 2
/// characters). Of dotted names the last parts alone are compared too, so that a key in the wrong section is found.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace ondol
