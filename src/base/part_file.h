// A file that several processes write at the same time, each its own bytes, and the checksums of the whole.
//
//   PartFile file("hidden/model.safetensors", file_bytes, /*chunk_bytes=*/4 << 20);
//   file.write(offset, data, size);              // in any order
//   const ChunkChecksums mine = file.commit();   // what this process wrote is durable
//   all.add(others);                             // ... of every process
//   all.values();                                // CRC-32 of each chunk of the file
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace ondol {

/// CRC-32 (zlib) of the chunks of a file whose bytes come in any order and from several processes. A CRC is linear in
/// the bytes of the message: that of a chunk is the sum (xor) of a term for every run of bytes, which depends on the
/// run and its place alone, and of the CRC of as many zeros. So a process needs to tell one number for each chunk in
/// which it has written.
class ChunkChecksums {
 public:
  ChunkChecksums(uint64_t file_bytes, size_t chunk_bytes);
  /// As terms() and bytes() of another process say.
  ChunkChecksums(uint64_t file_bytes, size_t chunk_bytes, uint64_t bytes, std::map<uint64_t, uint32_t> terms);

  void add(uint64_t offset, const void* data, size_t size);
  void add(const ChunkChecksums& other);

  /// By number of chunk; chunks that are not listed have 0.
  const std::map<uint64_t, uint32_t>& terms() const { return terms_; }
  /// That were added.
  uint64_t bytes() const { return bytes_; }
  uint64_t file_bytes() const { return file_bytes_; }
  /// Of all chunks of the file, once every byte of it was added.
  std::vector<uint32_t> values() const;

 private:
  uint64_t file_bytes_;
  uint64_t chunk_bytes_;
  uint64_t bytes_ = 0;
  std::map<uint64_t, uint32_t> terms_;
};

class PartFile {
 public:
  /// Opens the file, or creates it.
  PartFile(std::string path, uint64_t file_bytes, size_t chunk_bytes);
  ~PartFile();
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;

  void write(uint64_t offset, const void* data, size_t size);
  /// Makes durable what this process has written, and closes the file.
  ChunkChecksums commit();

 private:
  [[noreturn]] void fail(const char* what, int error) const;

  std::string path_;
  int fd_ = -1;
  ChunkChecksums checksums_;
};

}  // namespace ondol
