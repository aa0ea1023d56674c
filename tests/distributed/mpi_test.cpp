#include <cstdlib>

#include <gtest/gtest.h>

#include <ondol/distributed/communicator.h>

#include "support/temporary_directory.h"

namespace ondol {
namespace {

using testing::TemporaryDirectory;

/// Runs the program of the same directory; the errors of its ranks.
std::vector<std::string> mpirun(int ranks, const std::string& mode) {
  const TemporaryDirectory directory;
  const std::string command = concat(
      "timeout -k 5 60 mpirun --allow-run-as-root --oversubscribe --mca mpi_yield_when_idle 0 -n ", ranks, " ",
      ONDOL_BINARY_DIR, "/bin/mpi_collectives ", directory.path(), " ", mode, " > ", directory / "output", " 2>&1");
  const int status = std::system(command.c_str());
  std::vector<std::string> errors;
  bool failed = false;
  for (int r = 0; r < ranks; ++r) {
    errors.push_back(directory.read(concat("result-", r)));
    failed |= !errors.back().empty();
  }
  EXPECT_EQ(status != 0, failed) << directory.read("output");
  return errors;
}

class Mpi : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!comm_transport_available(CommTransport::mpi)) GTEST_SKIP() << "skipped: this build has no MPI";
    if (std::system("mpirun --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "skipped: there is no mpirun";
  }
};

TEST_F(Mpi, SumsAreTheTrees) {
  for (const int ranks : {2, 4})
    EXPECT_EQ(mpirun(ranks, "cases"), std::vector<std::string>(static_cast<size_t>(ranks)));
}

TEST_F(Mpi, ALateRankIsNamed) {
  for (const std::string& error : mpirun(2, "late")) {
    EXPECT_NE(error.find("[all_reduce #2, 400 bytes] rank 1 lives, but did not come within 0.5 s"), std::string::npos)
        << error;
  }
}

TEST_F(Mpi, AStoppedRankIsNamed) {
  const std::vector<std::string> errors = mpirun(3, "stopped");
  for (const size_t r : {0u, 2u}) {
    EXPECT_NE(errors[r].find("rank 1 gives no sign of life for 1 s"), std::string::npos) << errors[r];
  }
}

}  // namespace
}  // namespace ondol
