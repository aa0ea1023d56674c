#include "base/part_file.h"

#include <random>

#include <gtest/gtest.h>

#include <ondol/base/error.h>
#include <ondol/base/file.h>

#include "support/temporary_directory.h"

namespace ondol {
namespace {

std::string random_bytes(size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

/// Two processes write runs of random length in random order; the checksums are those of the file on disk.
TEST(PartFile, RunsInAnyOrderGiveTheChecksumsOfTheFile) {
  const testing::TemporaryDirectory directory;
  std::mt19937 random(3);
  int tried = 0;
  for (const size_t size : {0, 1, 100, 4096, 70001, 300000}) {
    for (const size_t chunk : {64, 1000, 4096, 1 << 22}) {
      const std::string path = directory / concat("file-", size, "-", chunk), bytes = random_bytes(size, 1);
      PartFile a(path, size, chunk), b(path, size, chunk);
      std::vector<std::pair<size_t, size_t>> runs;
      for (size_t begin = 0; begin < size;) {
        const size_t length = std::min<size_t>(size - begin, 1 + random() % (1 + size / 7));
        runs.emplace_back(begin, length);
        begin += length;
      }
      std::shuffle(runs.begin(), runs.end(), random);
      for (const auto& [begin, length] : runs) (random() % 2 == 0 ? a : b).write(begin, bytes.data() + begin, length);
      ChunkChecksums sums = a.commit();
      const ChunkChecksums others = b.commit();
      sums.add(ChunkChecksums(size, chunk, others.bytes(), others.terms()));
      EXPECT_EQ(sums.values(), file_checksums(path, chunk)) << size << " in chunks of " << chunk;
      EXPECT_TRUE(directory.read(concat("file-", size, "-", chunk)) == bytes);
      ++tried;
    }
  }
  EXPECT_EQ(tried, 24);
}

TEST(PartFile, WhatWasNotWrittenIsNoticed) {
  const testing::TemporaryDirectory directory;
  PartFile file(directory / "x", 100, 64);
  file.write(10, std::string(80, 'x').data(), 80);
  EXPECT_THROW(file.write(90, std::string(11, 'x').data(), 11), Error);
  const ChunkChecksums sums = file.commit();
  EXPECT_EQ(sums.bytes(), 80u);
  EXPECT_THROW(sums.values(), Error);
  EXPECT_THROW(file.commit(), Error);
  EXPECT_THROW(PartFile(directory / "none/x", 1, 64), Error);
}

TEST(PartFile, AFullDiskIsNamed) {
  const testing::TemporaryDirectory directory;
  const FileOperations real = file_operations();
  file_operations().pwrite = [](int, const void*, size_t, off_t) -> ssize_t { return errno = ENOSPC, -1; };
  std::string message;
  try {
    PartFile(directory / "x", 1, 64).write(0, "x", 1);
  } catch (const Error& error) {
    message = error.what();
  }
  file_operations() = real;
  EXPECT_EQ(message, concat("cannot write file: write: No space left on device (", directory / "x", ")"));
}

}  // namespace
}  // namespace ondol
