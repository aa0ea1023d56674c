// Reads the reference data of the tokenizer tests.
#pragma once

#include <unistd.h>
#include <zlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <ondol/tokenizer/tokenizer.h>

namespace ondol {

/// The directory of the reference data, empty when there is none.
inline std::string data_root() {
  const char* root = std::getenv("ONDOL_TEST_DATA");
  return root != nullptr && std::ifstream(std::string(root) + "/README.md") ? root : "";
}

inline std::string data_path(const std::string& name) { return data_root() + "/" + name; }

inline std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot open " + path);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

inline std::string read_gzip(const std::string& path) {
  gzFile file = gzopen(path.c_str(), "rb");
  if (file == nullptr) throw std::runtime_error("cannot open " + path);
  std::string out;
  char buffer[1 << 16];
  for (int n; (n = gzread(file, buffer, sizeof(buffer))) > 0;) out.append(buffer, static_cast<size_t>(n));
  gzclose(file);
  return out;
}

inline std::vector<nlohmann::json> read_jsonl(const std::string& name) {
  std::istringstream in(read_text(data_path(name)));
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

/// A directory for files of one test; not made yet, of this process alone.
inline std::filesystem::path scratch_directory(const std::string& name) {
  return std::filesystem::temp_directory_path() / ("ondol_" + name + "_" + std::to_string(getpid()));
}

inline Tokenizer load(const std::string& name) { return load_tokenizer(data_path("tokenizers/" + name)); }

}  // namespace ondol
