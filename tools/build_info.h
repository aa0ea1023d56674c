// What this build contains.
#pragma once

#include <string>
#include <utility>
#include <vector>

struct BuildInfo {
  std::string version;
  std::string compiler;
  std::string build_type;
  std::string cpu_kernels;  // instruction sets that the kernels were compiled for
  std::vector<std::pair<std::string, std::string>> libraries;  // name, version
};

const BuildInfo& build_info();
