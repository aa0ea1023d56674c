// The rule of direction (docs/architecture.md): base <- backend <- tensor <- ops <- autograd <- nn <- models <- {train,
// generate} <- tools; io, data, tokenizer, metrics and distributed use tensor and below, and each other.
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include <ondol/base/error.h>

#include <gtest/gtest.h>

namespace ondol {
namespace {

namespace fs = std::filesystem;

const std::map<std::string, int> kRanks = {{"base", 0},  {"backend", 1},   {"tensor", 2},      {"io", 3},
                                           {"data", 3},  {"tokenizer", 3}, {"distributed", 3}, {"metrics", 3},
                                           {"ops", 4},   {"autograd", 5},  {"nn", 6},          {"models", 7},
                                           {"train", 9}, {"generate", 8},  {"predict", 8},     {"tools", 10}};
const std::map<std::string, int> kSideRooms = {
    {"io", 0}, {"data", 0}, {"tokenizer", 0}, {"distributed", 0}, {"metrics", 0}};

/// The layer that the first directory of a path names ("ondol/" left out), or "".
std::string layer_of(std::string path) {
  for (const char* prefix : {"include/", "src/", "ondol/"}) {
    if (path.starts_with(prefix)) path.erase(0, std::string(prefix).size());
  }
  if (path.starts_with("kernels/")) return "backend";
  const size_t slash = path.find('/');
  const std::string name = slash == std::string::npos ? "" : path.substr(0, slash);
  return kRanks.contains(name) ? name : "";
}

bool allowed(const std::string& from, const std::string& to) {
  if (from == to || to.empty()) return true;
  if (kSideRooms.contains(from) && kSideRooms.contains(to)) return true;
  return kRanks.at(to) < kRanks.at(from);
}

/// The includes of a file that point upwards, one line each.
std::string violations(const std::string& path, std::istream& content) {
  const std::string from = layer_of(path);
  std::string found, line;
  for (int number = 1; std::getline(content, line); ++number) {
    if (!line.starts_with("#include ")) continue;
    const size_t begin = line.find_first_of("<\""), end = line.find_last_of(">\"");
    if (begin == std::string::npos || end <= begin) continue;
    const std::string to = layer_of(line.substr(begin + 1, end - begin - 1));
    if (!allowed(from, to)) found += concat(path, ":", number, ": ", from, " must not include ", to, "\n");
  }
  return found;
}

TEST(IncludeDirection, NoArrowPointsUpwards) {
  std::string found;
  int files = 0;
  for (const char* directory : {"include", "src", "kernels", "tools"}) {
    const fs::path root = fs::path(ONDOL_SOURCE_DIR) / directory;
    if (!fs::exists(root)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root)) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".h" && extension != ".cpp" && extension != ".cu" && extension != ".cuh") continue;
      const std::string path = fs::relative(entry.path(), ONDOL_SOURCE_DIR).string();
      if (layer_of(path).empty()) {
        EXPECT_EQ(path, "include/ondol/ondol.h") << "belongs to no layer";
        continue;
      }
      std::ifstream content(entry.path());
      found += violations(path, content);
      ++files;
    }
  }
  EXPECT_EQ(found, "");
  EXPECT_GT(files, 100);
}

/// Headers, types and functions of CUDA and its libraries: "cudaMalloc", "<cuda_runtime.h>", "__global__",
/// "cublasLt...". Names of devices ("cuda", "cuda:0") and of our own (DeviceType::cuda) are none.
std::string cuda_names(const std::string& path, std::istream& content) {
  const auto is_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
  std::string found, line;
  for (int number = 1; std::getline(content, line); ++number) {
    for (size_t begin = 0; begin < line.size();) {
      size_t end = begin;
      while (end < line.size() && is_word(line[end])) ++end;
      const std::string word = line.substr(begin, end - begin);
      const bool of_runtime = word.size() > 4 && word.starts_with("cuda") && std::isupper(word[4]) != 0;
      const bool of_driver = word.size() > 2 && word.starts_with("cu") && std::isupper(word[2]) != 0;
      const bool of_library = word.starts_with("cublas") || word == "cuda_runtime" ||
                              (word.size() > 4 && word.starts_with("nccl") && std::isupper(word[4]) != 0);
      const bool of_language = word == "__global__" || word == "__device__" || word == "__shared__";
      if (of_runtime || of_driver || of_library || of_language) found += concat(path, ":", number, ": ", word, "\n");
      begin = std::max(end, begin + 1);
    }
  }
  return found;
}

/// What knows of CUDA: the kernels, the backend, who gathers several GPUs, and the generator that kernels call too.
bool may_name_cuda(const std::string& path) {
  return path.starts_with("kernels/") || path.starts_with("src/backend/") || path.starts_with("src/distributed/") ||
         path == "include/ondol/base/philox.h";
}

TEST(IncludeDirection, NothingAboveTheBackendNamesCuda) {
  std::string found;
  int files = 0;
  for (const char* directory : {"include", "src", "tools"}) {
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(ONDOL_SOURCE_DIR) / directory)) {
      const std::string extension = entry.path().extension().string();
      const std::string path = fs::relative(entry.path(), ONDOL_SOURCE_DIR).string();
      if ((extension != ".h" && extension != ".cpp") || may_name_cuda(path)) continue;
      std::ifstream content(entry.path());
      found += cuda_names(path, content);
      ++files;
    }
  }
  EXPECT_EQ(found, "");
  EXPECT_GT(files, 100);
}

TEST(IncludeDirection, ACudaNameIsFound) {
  std::istringstream wrong("#include <cuda_runtime.h>\ncudaStream_t stream;  // cuMemAlloc\n");
  EXPECT_EQ(cuda_names("a.h", wrong), "a.h:1: cuda_runtime\na.h:2: cudaStream_t\na.h:2: cuMemAlloc\n");
  std::istringstream fine("Device{DeviceType::cuda, 0}; device_from_name(\"cuda:0\"); int cursor; cuda_backend();\n");
  EXPECT_EQ(cuda_names("a.h", fine), "");
}

TEST(IncludeDirection, AnUpwardArrowIsFound) {
  const auto check = [](const std::string& path, const std::string& text) {
    std::istringstream content(text);
    return violations(path, content);
  };
  EXPECT_EQ(check("src/ops/norm.cpp", "#include <vector>\n#include <ondol/nn/parameter.h>\n"),
            "src/ops/norm.cpp:2: ops must not include nn\n");
  EXPECT_NE(check("include/ondol/data/batch.h", "#include <ondol/ops/loss.h>\n"), "");
  EXPECT_NE(check("src/models/gpt2.cpp", "#include \"generate/decode_step.h\"\n"), "");
  EXPECT_NE(check("src/generate/generate.cpp", "#include <ondol/train/trainer.h>\n"), "");
  EXPECT_NE(check("kernels/norm.cu", "#include <ondol/tensor/tensor.h>\n"), "");
  EXPECT_NE(check("src/tensor/tensor.cpp", "#include <ondol/io/safetensors.h>\n"), "");
  EXPECT_EQ(check("src/models/gpt2.cpp", "#include <ondol/io/safetensors.h>\n#include \"models/family.h\"\n"), "");
  EXPECT_EQ(check("tools/main.cpp", "#include <ondol/train/trainer.h>\n#include \"verbs.h\"\n"), "");
}

}  // namespace
}  // namespace ondol
