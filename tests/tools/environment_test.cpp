// Every environment variable that the sources name is documented: those of the program in docs/config.md, those of the
// tests in docs/testing.md.
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include <gtest/gtest.h>

namespace ondol {
namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// The names in string literals that are variables of ours ("ONDOL_...") or stand in a call of getenv.
std::set<std::string> variables_of(const std::string& text) {
  std::set<std::string> found;
  for (const std::string opening : {"\"ONDOL_", "getenv(\""}) {
    for (size_t at = text.find(opening); at != std::string::npos; at = text.find(opening, at + 1)) {
      const size_t begin = text.find('"', at) + 1;
      size_t end = begin;
      while (end < text.size() && (std::isupper(static_cast<unsigned char>(text[end])) != 0 || text[end] == '_')) ++end;
      if (end < text.size() && text[end] == '"') found.insert(text.substr(begin, end - begin));
    }
  }
  return found;
}

std::set<std::string> undocumented(std::initializer_list<const char*> directories, const char* page, size_t fewest) {
  std::set<std::string> missing, found;
  for (const char* directory : directories) {
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(ONDOL_SOURCE_DIR) / directory)) {
      const std::string extension = entry.path().extension().string();
      if (entry.path().filename() == "environment_test.cpp") continue;  // its own examples
      if (extension == ".h" || extension == ".cpp" || extension == ".cu" || extension == ".cuh") {
        found.merge(variables_of(read(entry.path())));
      }
    }
  }
  EXPECT_GE(found.size(), fewest) << page;
  const std::string text = read(fs::path(ONDOL_SOURCE_DIR) / "docs" / page);
  for (const std::string& name : found) {
    if (text.find("`" + name + "`") == std::string::npos) missing.insert(name);
  }
  return missing;
}

TEST(Environment, EveryVariableIsDocumented) {
  EXPECT_EQ(undocumented({"include", "src", "kernels", "tools"}, "config.md", 4), std::set<std::string>{});
  std::set<std::string> of_tests = undocumented({"tests", "benchmarks"}, "testing.md", 5);
  const std::string config = read(fs::path(ONDOL_SOURCE_DIR) / "docs/config.md");
  std::erase_if(of_tests,
                [&config](const std::string& name) { return config.find("`" + name + "`") != std::string::npos; });
  EXPECT_EQ(of_tests, std::set<std::string>{});
}

TEST(Environment, NamesAreFound) {
  const std::string text = "std::getenv(\"PATH\"); setenv(\"ONDOL_A_B\", \"1\"); \"ONDOL_ and more\"; getenv(name)";
  EXPECT_EQ(variables_of(text), (std::set<std::string>{"ONDOL_A_B", "PATH"}));
}

}  // namespace
}  // namespace ondol
