// The two compact notations of SLURM's variables.
//
//   first_host("node[007-009,12],other")   // "node007"
//   nth_repeated_count("4(x2),3", 2)       // 3
#pragma once

#include <optional>
#include <string>

namespace ondol {

/// The first name of a node list, "" for an empty one.
std::string first_host(const std::string& list);

/// The entry of node `index`, which counts from 0; nothing when the list is too short or not such a list.
std::optional<int> nth_repeated_count(const std::string& list, int index);

}  // namespace ondol
