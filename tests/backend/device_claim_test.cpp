#include "backend/device_claim.h"

#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "support/temporary_directory.h"

namespace ondol {
namespace {

TEST(DeviceClaim, NamesTheProcessThatWasFirst) {
  const testing::TemporaryDirectory directory;
  const std::string file = directory / "gpu.lock";
  int ready[2], leave[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(leave), 0);
  const pid_t other = fork();
  if (other == 0) {
    const char first = claim_exclusively(file) == 0 ? 'y' : 'n';
    char wait = 0;
    _exit(write(ready[1], &first, 1) == 1 && read(leave[0], &wait, 1) == 1 ? 0 : 1);
  }
  char first = 0;
  ASSERT_EQ(read(ready[0], &first, 1), 1);
  EXPECT_EQ(first, 'y');
  EXPECT_EQ(claim_exclusively(file), other);
  ASSERT_EQ(write(leave[1], "x", 1), 1);
  int status = 1;
  waitpid(other, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(claim_exclusively(file), 0) << "its lock ended with it";
}

TEST(DeviceClaim, WithoutAPlaceNobodyIsNamed) {
  EXPECT_EQ(claim_exclusively("/nonexistent-directory/gpu.lock"), 0);
  const testing::TemporaryDirectory directory;
  const std::string target = directory.write("target", "12345\n"), link = directory / "gpu.lock";
  ASSERT_EQ(symlink(target.c_str(), link.c_str()), 0);
  EXPECT_EQ(claim_exclusively(link), 0);
  EXPECT_EQ(directory.read("target"), "12345\n") << "a link led elsewhere";
}

}  // namespace
}  // namespace ondol
