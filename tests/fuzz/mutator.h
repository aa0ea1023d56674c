// Deterministic mutations of byte strings, for replaying fuzz targets without a fuzzer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ondol::fuzz {

/// The input number `round` made from `seeds`: one to eight random edits of one of them (bits, bytes, integers, cut,
/// repeated, moved and spliced stretches). The same for the same arguments everywhere.
std::string mutate(const std::vector<std::string>& seeds, uint64_t round);

}  // namespace ondol::fuzz
