#include <ondol/base/file.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <ondol/base/directory_lock.h>
#include <ondol/base/error.h>
#include <ondol/base/text_reader.h>

#include "support/error_of.h"
#include "support/temporary_directory.h"

namespace ondol {
namespace {

using testing::error_of;
using testing::TemporaryDirectory;

// Fails the N-th call of the table (counted over all operations) in a given way.
enum class Fault { none, no_space, io_error, short_write };
struct FaultPlan {
  int fail_at = 0;
  int calls = 0;
  Fault fault = Fault::none;
  std::string failed_operation;
} plan;
FileOperations system_operations;

bool faulty(const char* operation) {
  ++plan.calls;
  if (plan.calls != plan.fail_at) return false;
  if (plan.fault == Fault::short_write) return std::strcmp(operation, "write") == 0;
  plan.failed_operation = operation;
  errno = plan.fault == Fault::no_space ? ENOSPC : EIO;
  return true;
}

class FaultInjection : public ::testing::Test {
 protected:
  void SetUp() override {
    system_operations = file_operations();
    file_operations() = {
        [](const char* path, int flags, mode_t mode) {
          return faulty("open") ? -1 : system_operations.open(path, flags, mode);
        },
        [](int fd, const void* data, size_t size) -> ssize_t {
          if (!faulty("write")) return system_operations.write(fd, data, size);
          return plan.fault == Fault::short_write ? system_operations.write(fd, data, size / 2) : -1;
        },
        [](int fd, const void* data, size_t size, off_t offset) {
          return faulty("pwrite") ? -1 : system_operations.pwrite(fd, data, size, offset);
        },
        [](int fd) { return faulty("fsync") ? -1 : system_operations.fsync(fd); },
        [](int fd) {
          const bool fail = faulty("close");
          const int error = errno;
          const int status = system_operations.close(fd);
          errno = error;
          return fail ? -1 : status;
        },
        [](const char* from, const char* to) { return faulty("rename") ? -1 : system_operations.rename(from, to); },
        [](const char* path) { return system_operations.unlink(path); },
        [](const char* path, mode_t mode) { return faulty("mkdir") ? -1 : system_operations.mkdir(path, mode); },
    };
  }
  void TearDown() override { file_operations() = system_operations; }
};

TEST_F(FaultInjection, EveryFailingCallLeavesOldOrNewContentAndNoLitter) {
  const std::string fresh(700000, 'n');
  for (const Fault fault : {Fault::no_space, Fault::io_error}) {
    std::string operations;
    int fail_at = 1;
    for (;; ++fail_at) {
      TemporaryDirectory directory;
      const std::string path = directory.write("state.bin", "old");
      plan = {fail_at, 0, fault, ""};
      const std::string error = error_of([&] {
        AtomicFile file(path);
        for (size_t i = 0; i < fresh.size(); i += 100000) file.write(fresh.data() + i, 100000);
        file.commit();
      });
      if (plan.failed_operation.empty()) {
        EXPECT_EQ(error, "no error");
        EXPECT_EQ(directory.read("state.bin"), fresh);
        break;
      }
      operations += plan.failed_operation + " ";
      EXPECT_EQ(directory.count(), 1u) << "litter after failing call " << fail_at;
      const std::string content = directory.read("state.bin");
      EXPECT_TRUE(content == "old" || content == fresh) << "mixed content after failing call " << fail_at;
      // The last close is the one of the directory, after its fsync: nothing is lost when it fails.
      if (error == "no error") {
        EXPECT_EQ(content, fresh);
        EXPECT_EQ(plan.failed_operation, "close");
      } else {
        EXPECT_NE(error.find(fault == Fault::no_space ? "No space left on device" : "Input/output error"),
                  std::string::npos)
            << error;
        EXPECT_NE(error.find(directory.path()), std::string::npos) << error;
      }
    }
    // open, buffered writes, fsync, close, rename, then open, fsync and close of the directory.
    EXPECT_EQ(operations, "open write write write write fsync close rename open fsync close ");
  }
}

TEST_F(FaultInjection, FailedFsyncIsNotDurable) {
  TemporaryDirectory directory;
  const std::string path = directory.write("manifest.json", "old");
  plan = {3, 0, Fault::io_error, ""};  // open, write, fsync
  EXPECT_NE(error_of([&] { write_file_atomic(path, "new"); }).find("fsync"), std::string::npos);
  EXPECT_EQ(plan.failed_operation, "fsync");
  EXPECT_EQ(directory.read("manifest.json"), "old");
}

TEST_F(FaultInjection, ShortWritesAreContinued) {
  const std::string fresh(5000, 'n');
  TemporaryDirectory directory;
  plan = {2, 0, Fault::short_write, ""};
  write_file_atomic(directory / "a", fresh);
  EXPECT_EQ(directory.read("a"), fresh);
  EXPECT_EQ(plan.calls, 9);  // one write more than the eight calls of an undisturbed commit
}

TEST(AtomicFile, UncommittedLeavesNothing) {
  TemporaryDirectory directory;
  {
    AtomicFile file(directory / "a");
    file.write("half");
  }
  EXPECT_EQ(directory.count(), 0u);
}

TEST(FileChecksums, OfChunks) {
  TemporaryDirectory directory;
  std::string content;
  for (int i = 0; i < 100000; ++i) content += static_cast<char>(i * 7 + i / 300);
  AtomicFile file(directory / "a");
  for (size_t i = 0; i < content.size(); i += 777) file.write(content.substr(i, 777));
  file.commit();
  std::vector<uint32_t> expected;
  for (size_t i = 0; i < content.size(); i += 30000) {
    const std::string part = content.substr(i, 30000);
    expected.push_back(static_cast<uint32_t>(::crc32(0, reinterpret_cast<const Bytef*>(part.data()), part.size())));
  }
  EXPECT_EQ(expected.size(), 4u);
  EXPECT_EQ(file_checksums(directory / "a", 30000), expected);
  EXPECT_EQ(crc32(0, "123456789", 9), 0xcbf43926u);  // the check value of CRC-32/ISO-HDLC
}

TEST(MappedFile, ReadsAndRefuses) {
  TemporaryDirectory directory;
  directory.write("a", "hello");
  directory.write("empty", "");
  const MappedFile file(directory / "a");
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(file.data()), file.size()), "hello");
  EXPECT_EQ(MappedFile(directory / "empty").size(), 0u);
  EXPECT_EQ(error_of([&] { MappedFile missing(directory / "none"); }),
            "cannot open file: No such file or directory (" + directory / "none" + ")");
  EXPECT_EQ(error_of([&] { MappedFile missing(directory.path()); }),
            "cannot read file: not a regular file (" + directory.path() + ")");
  EXPECT_EQ(read_file(directory / "a", 5), "hello");
  EXPECT_NE(error_of([&] { read_file(directory / "a", 4); }).find("5 bytes, at most 4"), std::string::npos);
}

TEST(MakeDirectories, CreatesParentsAndNamesTheObstacle) {
  TemporaryDirectory directory;
  make_directories(directory / "x/y/z");
  make_directories(directory / "x/y/z/");
  EXPECT_TRUE(std::filesystem::is_directory(directory / "x/y/z"));
  directory.write("file", "");
  EXPECT_NE(error_of([&] { make_directories(directory / "file/y"); }).find("a file of that name exists"),
            std::string::npos);
}

TEST(DirectoryLock, SecondProcessIsRefusedAndDeadHolderForgotten) {
  TemporaryDirectory directory;
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    DirectoryLock lock(directory.path());
    char one = 1;
    if (write(ready[1], &one, 1) != 1) _exit(1);
    for (;;) pause();
  }
  char one = 0;
  ASSERT_EQ(read(ready[0], &one, 1), 1);
  const std::string error = error_of([&] { DirectoryLock lock(directory.path()); });
  EXPECT_EQ(error, concat("directory is in use: locked by process ", child, " (", directory.path(), ")"));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(directory.count(), 1u);  // the stale lock file
  {
    DirectoryLock lock(directory.path());
    EXPECT_NE(error_of([&] { DirectoryLock second(directory.path()); }), "no error");
  }
  EXPECT_EQ(directory.count(), 0u);
  close(ready[0]);
  close(ready[1]);
}

TEST(TextReader, LinesOfPlainAndGzipText) {
  TemporaryDirectory directory;
  std::string text;
  for (int i = 0; i < 20000; ++i) text += concat("line ", i, i % 3 == 0 ? "\r\n" : "\n");
  text += "no newline at the end";
  directory.write("a.txt", text);
  const gzFile gz = gzopen((directory / "a.txt.gz").c_str(), "wb");
  ASSERT_EQ(gzwrite(gz, text.data(), static_cast<unsigned>(text.size())), static_cast<int>(text.size()));
  gzclose(gz);
  for (const char* name : {"a.txt", "a.txt.gz"}) {
    TextReader reader(directory / name);
    std::string line;
    for (int i = 0; i < 20000; ++i) {
      ASSERT_TRUE(reader.read_line(line));
      ASSERT_EQ(line, concat("line ", i));
    }
    ASSERT_TRUE(reader.read_line(line));
    EXPECT_EQ(line, "no newline at the end");
    EXPECT_EQ(reader.line_number(), 20001);
    EXPECT_FALSE(reader.read_line(line));
  }
  // Cut and damaged streams are errors, not short files.
  const std::string packed = directory.read("a.txt.gz");
  for (const auto& [bytes, why] :
       {std::pair{packed.substr(0, packed.size() / 2), "ends too early"},
        std::pair{packed.substr(0, packed.size() - 4), "ends too early"},
        std::pair{packed.substr(0, 5000) + std::string(3000, 'x') + packed.substr(8000), "damaged"}}) {
    const std::string path = directory.write("bad.gz", bytes);
    const std::string error = error_of([&] {
      TextReader reader(path);
      for (std::string line; reader.read_line(line);) {
      }
    });
    EXPECT_NE(error.find(why), std::string::npos) << error;
  }
  directory.write("long", std::string(600000, 'x'));
  TextReader reader(directory / "long");
  std::string line;
  EXPECT_NE(error_of([&] { reader.read_line(line, 1000); }).find("longer than 1000 bytes"), std::string::npos);
}

}  // namespace
}  // namespace ondol
