#include "distributed/host_list.h"

#include <charconv>

namespace ondol {

std::string first_host(const std::string& list) {
  std::string host;
  bool skipping = false;  // what stands behind the first alternative of a bracket
  bool inside = false;
  for (const char c : list) {
    if (c == ',' && !inside) break;
    if (c == '[') {
      inside = true;
    } else if (c == ']') {
      inside = skipping = false;
    } else if (inside && (c == '-' || c == ',')) {
      skipping = true;
    } else if (!skipping) {
      host += c;
    }
  }
  return host;
}

std::optional<int> nth_repeated_count(const std::string& list, int index) {
  const char* at = list.data();
  const char* const end = at + list.size();
  const auto number = [&](int& value) {
    const auto [next, error] = std::from_chars(at, end, value);
    at = next;
    return error == std::errc{} && value >= 0;
  };
  while (at != end) {
    int count = 0, times = 1;
    if (!number(count)) return std::nullopt;
    if (end - at >= 2 && at[0] == '(' && at[1] == 'x') {
      at += 2;
      if (!number(times) || at == end || *at++ != ')') return std::nullopt;
    }
    if (index < times) return count;
    index -= times;
    if (at != end && *at++ != ',') return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace ondol
