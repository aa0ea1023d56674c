// manifest.json of a checkpoint: sizes and checksums of its files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace ondol {

inline constexpr const char* kManifestName = "manifest.json";
inline constexpr size_t kChecksumChunkBytes = size_t{4} << 20;  // that have a checksum of their own

/// Lists every file of the directory and makes the manifest durable. The checksums of files that are not in `known` are
/// computed.
void write_manifest(const std::string& directory, const std::map<std::string, std::vector<uint32_t>>& known = {});

/// Throws Error naming the first file, and the tensor in it, that disagrees with the manifest.
void verify_manifest(const std::string& directory);

}  // namespace ondol
