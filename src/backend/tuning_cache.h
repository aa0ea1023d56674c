// Choices that were measured once and are kept on disk: `key -> value`, one line each with a checksum.
//
//   TuningCache cache(directory + "/products-NVIDIA_H100-130100.txt");
//   if (auto value = cache.find(key)) ...
//   std::string kept = cache.store(key, measured);        // what counts from now on, in this process and in later ones
//
// The first value stored for a key stays, whichever process it came from, so that later runs repeat the choices of the
// first. Lines that do not agree with their checksum are ignored; files are replaced atomically.
#pragma once

#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

namespace ondol {

class TuningCache {
 public:
  /// Reads the file if there is one. "": nothing is ever kept on disk.
  explicit TuningCache(std::string path);

  std::optional<std::string> find(const std::string& key) const;

  /// Keeps the value unless another process was first; `rejected` is a value that turned out to be of no use and may be
  /// replaced. Nothing when the file cannot be written: then the choice would not be the same in the next run. Keys and
  /// values are text without tabs and line ends.
  std::optional<std::string> store(const std::string& key, const std::string& value, const std::string& rejected = "");

  /// False when there is no place to keep anything, or writing has failed before.
  bool writable() const;

 private:
  void read();

  const std::string path_;
  mutable std::mutex mutex_;
  bool writable_;
  std::unordered_map<std::string, std::string> entries_;
};

/// $XDG_CACHE_HOME/ondol, or ~/.cache/ondol; "" when neither variable holds an absolute path.
std::string cache_directory();

}  // namespace ondol
