#include "base/part_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <zlib.h>

#include <ondol/base/error.h>
#include <ondol/base/file.h>

namespace ondol {

namespace {

/// Bytes whose checksum is computed while they are in the processor's cache for the system to copy.
constexpr size_t kBlockBytes = size_t{256} << 10;

/// What the remainder of a message becomes when so many zero bytes follow it.
uint32_t shifted(uint32_t remainder, uint64_t zeros) {
  return static_cast<uint32_t>(::crc32_combine(remainder, 0, static_cast<z_off_t>(zeros)));
}

/// The CRC register after these bytes, from 0 and without the final inversion, which is linear in the bytes.
uint32_t remainder_of(const void* data, size_t size) { return ~crc32(~uint32_t{0}, data, size); }

uint32_t crc_of_zeros(uint64_t size) { return ~shifted(~uint32_t{0}, size); }

}  // namespace

ChunkChecksums::ChunkChecksums(uint64_t file_bytes, size_t chunk_bytes)
    : ChunkChecksums(file_bytes, chunk_bytes, 0, {}) {}

ChunkChecksums::ChunkChecksums(uint64_t file_bytes, size_t chunk_bytes, uint64_t bytes,
                               std::map<uint64_t, uint32_t> terms)
    : file_bytes_(file_bytes), chunk_bytes_(chunk_bytes), bytes_(bytes), terms_(std::move(terms)) {
  ONDOL_CHECK(chunk_bytes > 0, "checksum chunks need at least one byte");
}

void ChunkChecksums::add(uint64_t offset, const void* data, size_t size) {
  ONDOL_CHECK(offset <= file_bytes_ && size <= file_bytes_ - offset, "bytes ", offset, " to ", offset + size,
              " of a file of ", file_bytes_);
  const char* next = static_cast<const char*>(data);
  bytes_ += size;
  while (size > 0) {
    const uint64_t chunk = offset / chunk_bytes_;
    const uint64_t end = std::min(file_bytes_, (chunk + 1) * chunk_bytes_);
    const auto count = static_cast<size_t>(std::min<uint64_t>(size, end - offset));
    terms_[chunk] ^= shifted(remainder_of(next, count), end - offset - count);
    next += count;
    offset += count;
    size -= count;
  }
}

void ChunkChecksums::add(const ChunkChecksums& other) {
  ONDOL_CHECK(other.file_bytes_ == file_bytes_ && other.chunk_bytes_ == chunk_bytes_, "checksums of a file of ",
              other.file_bytes_, " bytes, ", file_bytes_, " expected");
  bytes_ += other.bytes_;
  for (const auto& [chunk, term] : other.terms_) terms_[chunk] ^= term;
}

std::vector<uint32_t> ChunkChecksums::values() const {
  ONDOL_CHECK(bytes_ == file_bytes_, bytes_, " bytes were written of ", file_bytes_);
  std::vector<uint32_t> values;
  uint32_t whole = 0;
  for (uint64_t begin = 0; begin < file_bytes_; begin += chunk_bytes_) {
    const uint64_t size = std::min(chunk_bytes_, file_bytes_ - begin);
    if (begin == 0 || size < chunk_bytes_) whole = crc_of_zeros(size);
    const auto term = terms_.find(begin / chunk_bytes_);
    values.push_back(whole ^ (term == terms_.end() ? 0 : term->second));
  }
  return values;
}

PartFile::PartFile(std::string path, uint64_t file_bytes, size_t chunk_bytes)
    : path_(std::move(path)), checksums_(file_bytes, chunk_bytes) {
  fd_ = file_operations().open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0) throw_error("cannot create file: ", std::strerror(errno), " (", path_, ")");
}

PartFile::~PartFile() {
  if (fd_ >= 0) file_operations().close(fd_);
}

void PartFile::fail(const char* what, int error) const {
  throw_error("cannot write file: ", what, ": ", std::strerror(error), " (", path_, ")");
}

void PartFile::write(uint64_t offset, const void* data, size_t size) {
  ONDOL_CHECK(fd_ >= 0, "cannot write file: already committed (", path_, ")");
  const char* next = static_cast<const char*>(data);
  while (size > 0) {
    const size_t block = std::min(size, kBlockBytes);
    checksums_.add(offset, next, block);
    for (size_t done = 0; done < block;) {
      const ssize_t count = file_operations().pwrite(fd_, next + done, block - done, static_cast<off_t>(offset + done));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail("write", errno);
      if (count == 0) fail("write", ENOSPC);  // no progress and no reason given: never loop for ever
      done += static_cast<size_t>(count);
    }
    next += block;
    offset += block;
    size -= block;
  }
}

ChunkChecksums PartFile::commit() {
  ONDOL_CHECK(fd_ >= 0, "cannot write file: already committed (", path_, ")");
  // After a failed fsync the kernel may have dropped the dirty pages, so a second try would lie: give the file up.
  if (file_operations().fsync(fd_) != 0) fail("fsync", errno);
  const int status = file_operations().close(fd_);
  fd_ = -1;
  if (status != 0) fail("close", errno);
  return checksums_;
}

}  // namespace ondol
