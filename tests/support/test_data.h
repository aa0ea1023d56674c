// Where tests find reference data: $ONDOL_TEST_DATA, default ../shared/data beside the source tree.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

namespace ondol::test {

inline std::string data_path(const std::string& relative) {
  const char* root = std::getenv("ONDOL_TEST_DATA");
  const std::filesystem::path base =
      root != nullptr ? std::filesystem::path(root) : std::filesystem::path(ONDOL_SOURCE_DIR) / "../shared/data";
  return (base / relative).string();
}

inline bool has_data(const std::string& relative) { return std::filesystem::exists(data_path(relative)); }

}  // namespace ondol::test

/// Ends the test as skipped when the reference data is absent.
#define ONDOL_REQUIRE_DATA(relative)                                     \
  if (!::ondol::test::has_data(relative)) {                              \
    GTEST_SKIP() << "skipped: no reference data (" << (relative) << ")"; \
  }
