// manifest.json of a checkpoint: sizes and checksums of its files.
#pragma once

#include <string>

namespace ondol {

inline constexpr const char* kManifestName = "manifest.json";

/// Lists every file of the directory and makes the manifest durable.
void write_manifest(const std::string& directory);

/// Throws Error naming the first file, and the tensor in it, that disagrees with the manifest.
void verify_manifest(const std::string& directory);

}  // namespace ondol
