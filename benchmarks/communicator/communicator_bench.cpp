// Collectives between processes of this machine, beside what copying memory takes.
//
//   build/bin/communicator_bench --ranks 2 --transport shm --megabytes 60
#include <algorithm>
#include <cstring>
#include <iostream>

#include <CLI/CLI.hpp>

#include <ondol/distributed/communicator.h>

#include "support/ranks.h"

namespace {

using namespace ondol;  // NOLINT
using Clock = std::chrono::steady_clock;

/// The median of the seconds that `call` takes.
template <class Call>
double median_seconds(int repetitions, const Call& call) {
  std::vector<double> seconds;
  for (int i = 0; i < repetitions; ++i) {
    const auto start = Clock::now();
    call();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  std::nth_element(seconds.begin(), seconds.begin() + repetitions / 2, seconds.end());
  return seconds[static_cast<size_t>(repetitions) / 2];
}

void measure(Communicator& world, int64_t megabytes) {
  const bool first = world.rank() == 0;
  const auto report = [&](const char* what, double seconds, double bytes) {
    if (!first) return;
    std::cout << what << ": " << seconds * 1e6 << " us";
    if (bytes > 0) std::cout << ", " << bytes / seconds / 1e9 << " GB/s of tensor";
    std::cout << std::endl;
  };
  const Tensor small = Tensor::zeros({256}), large = Tensor::full({megabytes * 250000}, 1);
  const double bytes = static_cast<double>(large.numel()) * 4;
  world.all_reduce(large).wait();
  report("barrier", median_seconds(2000, [&] { world.barrier().wait(); }), 0);
  report("all_reduce of 1 KB", median_seconds(2000, [&] { world.all_reduce(small).wait(); }), 0);
  report("all_reduce", median_seconds(15, [&] { world.all_reduce(large).wait(); }), bytes);
  const int64_t part = large.numel() / world.size();
  const Tensor whole = large.narrow(0, 0, part * world.size()), mine = whole.narrow(0, world.rank() * part, part);
  report("reduce_scatter", median_seconds(15, [&] { world.reduce_scatter(mine, whole).wait(); }), bytes);
  report("all_gather", median_seconds(15, [&] { world.all_gather(whole, mine).wait(); }), bytes);
  report("broadcast", median_seconds(15, [&] { world.broadcast(large, 0).wait(); }), bytes);
  const Tensor copy = Tensor::empty({large.numel()});
  report("copy within a rank, all at once",
         median_seconds(15, [&] { std::memcpy(copy.raw(), large.raw(), static_cast<size_t>(bytes)); }), bytes);
  world.barrier().wait();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Collectives between processes of this machine");
  int ranks = 2;
  int64_t megabytes = 60;
  std::string transport = "shm";
  app.add_option("--ranks", ranks)->check(CLI::Range(2, 64));
  app.add_option("--megabytes", megabytes)->check(CLI::Range(1, 4096));
  app.add_option("--transport", transport);
  CLI11_PARSE(app, argc, argv);
  const auto errors = ondol::testing::run_ranks(ranks, [&](const RankInfo& info, std::shared_ptr<Rendezvous> meeting) {
    const auto world = make_communicator(info, meeting, {.transport = comm_transport_from_name(transport)});
    measure(*world, megabytes);
  });
  for (const std::string& error : errors) {
    if (error.empty()) continue;
    std::cerr << "error: " << error << std::endl;
    return 1;
  }
}
