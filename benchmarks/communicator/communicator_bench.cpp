// Collectives between processes of this machine, beside what copying memory takes. Sums are compared with those that
// each rank makes by itself first.
//
//   build/bin/communicator_bench --ranks 2 --transport shm --megabytes 60
//   build/bin/communicator_bench --ranks 1 --transport nccl        a GPU for each rank; --order any: NCCL's own sums
#include <algorithm>
#include <bit>
#include <cmath>
#include <iostream>

#include <CLI/CLI.hpp>

#include <ondol/base/philox.h>
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

float value_of(int rank, int64_t i) {
  return philox_normal({1, static_cast<uint32_t>(rank), 0}, static_cast<uint64_t>(i));
}

/// The tree of the sums over ranks [begin, end).
float sum_of(int begin, int end, int64_t i) {
  if (end - begin == 1) return value_of(begin, i);
  const int middle = begin + static_cast<int>(std::bit_floor(static_cast<unsigned>(end - begin - 1)));
  return sum_of(begin, middle, i) + sum_of(middle, end, i);
}

/// All-reduce, and reduce-scatter with all-gather, against the sums of the formula: the same bits when they are
/// deterministic.
void check_sums(Communicator& world) {
  constexpr int64_t kPerRank = 100'003;
  const Device device = world.options().device;
  const int64_t count = kPerRank * world.size();
  std::vector<float> own, wanted;
  for (int64_t i = 0; i < count; ++i) {
    own.push_back(value_of(world.rank(), i));
    wanted.push_back(sum_of(0, world.size(), i));
  }
  const Tensor reduced = Tensor::from_vector(own, {count}).to(device);
  const Tensor scattered = Tensor::from_vector(own, {count}).to(device);
  const Tensor part = scattered.narrow(0, world.rank() * kPerRank, kPerRank);
  world.all_reduce(reduced).synchronize();
  world.reduce_scatter(part, scattered).synchronize();
  world.all_gather(scattered, part).synchronize();
  const float tolerance = world.options().deterministic ? 0.0f : 1e-5f;
  for (const Tensor& tensor : {reduced, scattered}) {
    const std::vector<float> sums = tensor.to_vector<float>();
    for (size_t i = 0; i < sums.size(); ++i) {
      ONDOL_CHECK(std::abs(sums[i] - wanted[i]) <= tolerance, "element ", i, " is ", sums[i], ", not ", wanted[i]);
    }
  }
}

void measure(Communicator& world, int64_t megabytes) {
  const Device device = world.options().device;
  const bool first = world.rank() == 0;
  const auto report = [&](const char* what, double seconds, double bytes) {
    if (!first) return;
    std::cout << what << ": " << seconds * 1e6 << " us";
    if (bytes > 0) std::cout << ", " << bytes / seconds / 1e9 << " GB/s of tensor";
    std::cout << std::endl;
  };
  check_sums(world);
  if (first) {
    std::cout << comm_transport_name(world.transport()) << ", " << world.size() << " ranks on " << to_string(device)
              << ": sums are right" << std::endl;
  }
  const Tensor small = Tensor::zeros({256}, DType::f32, device);
  const Tensor large = Tensor::full({megabytes * 250000}, 1).to(device);
  const double bytes = static_cast<double>(large.numel()) * 4;
  world.all_reduce(large).synchronize();
  report("barrier", median_seconds(2000, [&] { world.barrier().synchronize(); }), 0);
  report("all_reduce of 1 KB", median_seconds(2000, [&] { world.all_reduce(small).synchronize(); }), 0);
  report("all_reduce", median_seconds(15, [&] { world.all_reduce(large).synchronize(); }), bytes);
  const int64_t part = large.numel() / world.size();
  const Tensor whole = large.narrow(0, 0, part * world.size()), mine = whole.narrow(0, world.rank() * part, part);
  report("reduce_scatter", median_seconds(15, [&] { world.reduce_scatter(mine, whole).synchronize(); }), bytes);
  report("all_gather", median_seconds(15, [&] { world.all_gather(whole, mine).synchronize(); }), bytes);
  report("broadcast", median_seconds(15, [&] { world.broadcast(large, 0).synchronize(); }), bytes);
  const Tensor copy = Tensor::empty({large.numel()}, DType::f32, device);
  report("copy within a rank, all at once",
         median_seconds(15,
                        [&] {
                          copy.copy_from(large);
                          copy.narrow(0, 0, 1).to_vector<float>();  // waits for the device
                        }),
         bytes);
  world.barrier().synchronize();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Collectives between processes of this machine");
  int ranks = 2;
  int64_t megabytes = 60;
  std::string transport = "shm", order = "tree";
  app.add_option("--ranks", ranks)->check(CLI::Range(1, 64));
  app.add_option("--megabytes", megabytes)->check(CLI::Range(1, 4096));
  app.add_option("--transport", transport);
  app.add_option("--order", order)->check(CLI::IsMember({"tree", "any"}));
  CLI11_PARSE(app, argc, argv);
  const auto errors = ondol::testing::run_ranks(ranks, [&](const RankInfo& info, std::shared_ptr<Rendezvous> meeting) {
    const CommTransport wanted = comm_transport_from_name(transport);
    const Device device = wanted == CommTransport::nccl ? Device{DeviceType::cuda, info.rank} : Device{};
    const auto world =
        make_communicator(info, meeting, {.transport = wanted, .device = device, .deterministic = order == "tree"});
    measure(*world, megabytes);
  });
  for (const std::string& error : errors) {
    if (error.empty()) continue;
    std::cerr << "error: " << error << std::endl;
    return 1;
  }
}
