#include "launch_command.h"

#include <algorithm>

namespace {

using Arguments = std::vector<std::string>;

std::string name_of(const std::string& flag) { return flag.substr(0, flag.find('=')); }

bool has_flag(const Arguments& arguments, const std::string& name) {
  return std::any_of(arguments.begin(), arguments.end(),
                     [&](const std::string& argument) { return name_of(argument) == name; });
}

}  // namespace

const std::set<std::string>& flags_with_value() {
  static const std::set<std::string> flags = {"--device", "--dtype", "--threads", "--log-level"};
  return flags;
}

size_t first_word(const Arguments& arguments, size_t from, const std::set<std::string>& with_value) {
  for (size_t i = from; i < arguments.size(); ++i) {
    if (with_value.contains(arguments[i])) {
      ++i;
    } else if (!arguments[i].starts_with("-")) {
      return i;
    }
  }
  return arguments.size();
}

Arguments take_launched(Arguments& arguments) {
  const size_t verb = first_word(arguments, 0, flags_with_value());
  if (verb == arguments.size() || arguments[verb] != "launch") return {};
  std::set<std::string> with_value = flags_with_value();
  with_value.insert({"--processes", "--transport", "--restarts", "--nodes", "--node-rank"});
  const auto begin = arguments.begin() + static_cast<std::ptrdiff_t>(first_word(arguments, verb + 1, with_value));
  Arguments launched(begin, arguments.end());
  arguments.erase(begin, arguments.end());
  return launched;
}

Arguments rank_command(const Arguments& flags, const Arguments& command, int attempt) {
  Arguments all;
  for (size_t i = 0; i < flags.size(); ++i) {
    const bool with_value = flags_with_value().contains(flags[i]);
    if (!has_flag(command, flags[i])) all.insert(all.end(), flags.begin() + i, flags.begin() + i + 1 + with_value);
    i += with_value;
  }
  all.insert(all.end(), command.begin(), command.end());
  if (attempt == 0) return all;
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i] == "--resume=never") all[i] = "--resume=auto";
    if (all[i] == "never" && i > 0 && all[i - 1] == "--resume") all[i] = "auto";
  }
  return all;
}
