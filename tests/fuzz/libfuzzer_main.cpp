// libFuzzer's entry points for the target that the build names (ONDOL_FUZZ_TARGET).
//
//   build-fuzz/bin/fuzz_safetensors DIRECTORY -max_total_time=300
//
// An empty corpus directory is first filled with the target's own seeds.
#include <cstdint>
#include <filesystem>
#include <fstream>

#include "fuzz/targets.h"

namespace {

const ondol::fuzz::Target& target() {
  static const ondol::fuzz::Target& found = ondol::fuzz::find_target(ONDOL_FUZZ_TARGET);
  return found;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  namespace fs = std::filesystem;
  for (int i = 1; i < *argc; ++i) {
    const fs::path path((*argv)[i]);
    if ((*argv)[i][0] == '-' || !fs::is_directory(path) || !fs::is_empty(path)) continue;
    int number = 0;
    for (const std::string& seed : target().seeds()) {
      std::ofstream(path / ("seed-" + std::to_string(number++)), std::ios::binary) << seed;
    }
    break;
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  target().run({reinterpret_cast<const char*>(data), size});
  return 0;
}
