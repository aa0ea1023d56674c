#include "build_info.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <zlib.h>

#include <CLI/Version.hpp>
#include <nlohmann/detail/abi_macros.hpp>

namespace {

#define ONDOL_TEXT_OF(x) #x
#define ONDOL_TEXT(x) ONDOL_TEXT_OF(x)

std::string pcre2_version() {
  char text[64] = {};
  pcre2_config(PCRE2_CONFIG_VERSION, text);
  return text;
}

}  // namespace

const BuildInfo& build_info() {
  static const BuildInfo info{
      .version = ONDOL_VERSION,
      .compiler = __VERSION__,
      .build_type = ONDOL_BUILD_TYPE,
      .cpu_kernels = ONDOL_CPU_KERNELS,
      .libraries = {{"OpenMP", ONDOL_TEXT(_OPENMP)},
                    {"zlib", zlibVersion()},
                    {"PCRE2", pcre2_version()},
                    {"CLI11", CLI11_VERSION},
                    {"nlohmann_json", ONDOL_TEXT(NLOHMANN_JSON_VERSION_MAJOR) "." ONDOL_TEXT(
                                          NLOHMANN_JSON_VERSION_MINOR) "." ONDOL_TEXT(NLOHMANN_JSON_VERSION_PATCH)}},
  };
  return info;
}
