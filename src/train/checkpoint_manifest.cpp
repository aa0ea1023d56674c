#include "train/checkpoint_manifest.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <vector>

#include <ondol/base/file.h>
#include <ondol/io/safetensors.h>

#include "base/json_reader.h"

namespace ondol {

namespace {

namespace fs = std::filesystem;

/// `, in tensor "x"` when the bytes [begin, end) of a safetensors file belong to one, else "".
std::string tensor_at(const std::string& path, uint64_t begin, uint64_t end) {
  if (!path.ends_with(".safetensors")) return "";
  try {
    const SafetensorsFile file(path);
    for (const SafetensorsEntry& entry : file.entries()) {
      if (entry.offset < end && begin < entry.offset + entry.bytes) return concat(", in tensor \"", entry.name, "\"");
    }
  } catch (const Error&) {  // the header itself is damaged: there is no tensor to name
  }
  return "";
}

void verify_file(const std::string& directory, const JsonReader& entry, size_t chunk_bytes) {
  const std::string name = entry.require<std::string>("name");
  if (name.empty() || name.find('/') != std::string::npos || name == "." || name == "..") {
    entry.fail("name", "not a plain file name");
  }
  const std::string path = directory + "/" + name;
  std::error_code error;
  const uint64_t size = fs::file_size(path, error);
  ONDOL_CHECK(!error, "damaged checkpoint: file is missing (", path, ")");
  const uint64_t expected = entry.require<uint64_t>("bytes");
  ONDOL_CHECK(size == expected, "damaged checkpoint: file has ", size, " bytes, its manifest says ", expected, " (",
              path, ")");
  const auto wanted = entry.require<std::vector<uint32_t>>("crc32");
  const std::vector<uint32_t> found = file_checksums(path, chunk_bytes);
  ONDOL_CHECK(wanted.size() == found.size(), "damaged checkpoint: wrong number of checksums (", path, ")");
  for (size_t i = 0; i < found.size(); ++i) {
    if (found[i] == wanted[i]) continue;
    const uint64_t begin = i * chunk_bytes, end = std::min<uint64_t>(begin + chunk_bytes, size);
    throw_error("damaged checkpoint: checksum differs in bytes ", begin, " to ", end - 1, tensor_at(path, begin, end),
                " (", path, ")");
  }
}

}  // namespace

void write_manifest(const std::string& directory, const std::map<std::string, std::vector<uint32_t>>& known) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  nlohmann::ordered_json manifest = {{"format", 1}, {"chunk_bytes", kChecksumChunkBytes}, {"files", Json::array()}};
  for (const std::string& name : names) {
    const std::string path = directory + "/" + name;
    const auto checksums = known.find(name);
    manifest["files"].push_back(
        {{"name", name},
         {"bytes", fs::file_size(path)},
         {"crc32", checksums != known.end() ? checksums->second : file_checksums(path, kChecksumChunkBytes)}});
  }
  write_file_atomic(directory + "/" + kManifestName, manifest.dump() + "\n");
}

void verify_manifest(const std::string& directory) {
  const std::string path = directory + "/" + kManifestName;
  ONDOL_CHECK(fs::exists(path), "incomplete checkpoint: no ", kManifestName, " (", directory, ")");
  const Json document = load_json(path, ErrorKind::failure, {.max_bytes = uint64_t{1} << 30});
  const JsonReader manifest(document, path, ErrorKind::failure);
  ONDOL_CHECK(manifest.require<int64_t>("format") == 1, "unknown manifest format (", path, ")");
  const auto chunk_bytes = static_cast<size_t>(manifest.require<int64_t>("chunk_bytes", at_least(1)));
  const std::vector<JsonReader> files = manifest.children("files");
  ONDOL_CHECK(!files.empty(), "manifest lists no file (", path, ")");
  for (const JsonReader& entry : files) verify_file(directory, entry, chunk_bytes);
}

}  // namespace ondol
