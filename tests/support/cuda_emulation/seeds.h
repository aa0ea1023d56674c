// Seeds of the emulator's scheduler: a fixed set, or the one of the environment variable ONDOL_EMULATION_SEED.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <vector>

namespace ondol::emulation {

inline std::vector<uint64_t> seeds() {
  const char* given = std::getenv("ONDOL_EMULATION_SEED");
  if (given != nullptr && *given != '\0') return {std::strtoull(given, nullptr, 10)};
  return {1, 20};
}

}  // namespace ondol::emulation
