// The command line of `ondol launch` consists of two: its own, and that of the verb it runs.
//
//   std::vector<std::string> launched = take_launched(arguments);      // {"train", "c.json"}; arguments lose them
//   … = rank_command({"--threads", "1"}, launched, attempt);           // what a process is started with
#pragma once

#include <set>
#include <string>
#include <vector>

/// Global flags that are followed by a value.
const std::set<std::string>& flags_with_value();

/// The position of the first argument that is neither a flag nor the value of one, or arguments.size().
size_t first_word(const std::vector<std::string>& arguments, size_t from, const std::set<std::string>& with_value);

/// What stands behind the flags of `launch`, the verb first; empty when `launch` is not the verb of the arguments.
std::vector<std::string> take_launched(std::vector<std::string>& arguments);

/// Flags of the launch, then the command; its own flags come later and win. A process that starts again continues the
/// run even if the first one was told to start over.
std::vector<std::string> rank_command(const std::vector<std::string>& flags, const std::vector<std::string>& command,
                                      int attempt);
