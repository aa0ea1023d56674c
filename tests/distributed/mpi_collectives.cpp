// A program that mpirun starts: mpi_collectives DIRECTORY cases|late|stopped. Each rank leaves its error ("" for none)
// in DIRECTORY/result-RANK.
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <thread>

#include <ondol/distributed/communicator.h>

#include "distributed/collective_cases.h"
#include "support/ranks.h"

namespace {

using namespace ondol;  // NOLINT

int variable(const char* name) {
  const char* const value = std::getenv(name);
  ONDOL_CHECK(value != nullptr, name, " is not set");
  return std::atoi(value);
}

void run(const RankInfo& info, const std::string& directory, const std::string& mode) {
  CommunicatorOptions options{.transport = CommTransport::mpi};
  if (mode == "late") options.collective_timeout = std::chrono::milliseconds(500);
  if (mode == "stopped") options.silence_timeout = std::chrono::milliseconds(1000);
  const auto world = make_communicator(info, std::make_shared<ondol::testing::DirectoryRendezvous>(directory), options);
  ONDOL_CHECK(world->transport() == CommTransport::mpi, "another transport");
  if (mode == "cases") {
    const int cases = ondol::testing::run_collective_cases(*world, 100003, false);
    ONDOL_CHECK(cases > 200, "only ", cases, " cases");
    world->barrier().wait();
    return;
  }
  world->barrier().wait();
  if (info.rank == 1 && mode == "late") std::this_thread::sleep_for(std::chrono::milliseconds(1200));
  if (info.rank == 1 && mode == "stopped") {
    std::ofstream(directory + "/result-1") << "stopped";
    raise(SIGSTOP);
  }
  world->all_reduce(Tensor::zeros({100})).wait();
}

}  // namespace

int main(int, char** argv) {
  const std::string directory = argv[1];
  std::string error;
  const RankInfo info{.rank = variable("OMPI_COMM_WORLD_RANK"), .size = variable("OMPI_COMM_WORLD_SIZE")};
  try {
    run(info, directory, argv[2]);
  } catch (const std::exception& e) {
    error = e.what();
  }
  const std::string file = directory + "/result-" + std::to_string(info.rank);
  std::ofstream(file + ".new") << error;
  std::rename((file + ".new").c_str(), file.c_str());
  // The launcher kills the others when one has failed: they may say their word first.
  for (int r = 0; r < info.size && !error.empty(); ++r) {
    for (int i = 0; i < 200 && !std::ifstream(directory + "/result-" + std::to_string(r)); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  return error.empty() ? 0 : 1;
}
