// Makes the program `ondol` fail at a chosen moment of a training run. Linked with its objects and with --wrap for the
// functions below (tests/CMakeLists.txt), so that the program itself knows nothing of it.
//
//   ONDOL_FAULT=RANK:STEP:MOMENT:ACTION:FRACTION   moments forward, backward, collective, save; actions kill, stop
//   ONDOL_FAULT_DIRECTORY=D                        where fault-RANK with the time is left; there is one fault only
//
// FRACTION (0 to 1) is how far the moment has got: of a forward or backward, as long as the one before took; of a
// collective, up to a millisecond behind its start; of a save, whether at the first fsync, write or rename.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include <ondol/autograd/variable.h>
#include <ondol/base/file.h>
#include <ondol/distributed/communicator.h>
#include <ondol/distributed/job.h>

namespace {

using Clock = std::chrono::steady_clock;

struct Fault {
  int rank = -1;
  long step = 0;
  char moment[16] = "", action[16] = "";
  double fraction = 0.0;
};

const Fault& fault() {
  static const Fault wanted = [] {
    Fault parsed;
    const char* text = std::getenv("ONDOL_FAULT");
    if (text == nullptr) return parsed;
    if (std::sscanf(text, "%d:%ld:%15[^:]:%15[^:]:%lf", &parsed.rank, &parsed.step, parsed.moment, parsed.action,
                    &parsed.fraction) != 5) {
      std::abort();
    }
    return parsed;
  }();
  return wanted;
}

int own_rank() {
  for (const char* name : {"ONDOL_RANK", "OMPI_COMM_WORLD_RANK"}) {
    if (const char* value = std::getenv(name)) return std::atoi(value);
  }
  return -1;
}

std::atomic<long> step_now{0};
std::atomic<bool> armed{false};  // the moment has come; the fault may be under way

bool due(const char* moment) {
  static const int rank = own_rank();
  return fault().rank == rank && std::strcmp(fault().moment, moment) == 0 && step_now >= fault().step;
}

void strike() {
  const char* directory = std::getenv("ONDOL_FAULT_DIRECTORY");
  char path[512], text[64];
  std::snprintf(path, sizeof path, "%s/fault", directory);
  const int file = ::open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (file < 0) return;  // there has been one
  const int length = std::snprintf(text, sizeof text, "%.6f\n",
                                   std::chrono::duration<double>(Clock::now().time_since_epoch()).count());
  if (::write(file, text, static_cast<size_t>(length)) != length) std::abort();
  ::close(file);
  ::kill(::getpid(), std::strcmp(fault().action, "kill") == 0 ? SIGKILL : SIGSTOP);
}

void strike_after(Clock::duration time) {
  if (armed.exchange(true)) return;
  std::thread([time] {
    std::this_thread::sleep_for(time);
    strike();
  }).detach();
}

Clock::duration part_of(Clock::duration whole) {
  return std::chrono::duration_cast<Clock::duration>(whole * fault().fraction);
}

/// How long something took last.
struct Stopwatch {
  Clock::time_point begun;
  Clock::duration last{};
  void end() { last = Clock::now() - begun; }
};
Stopwatch forward_time, backward_time;

// ---- saves ----

ondol::FileOperations system_calls;

/// Rank 0 alone renames.
void at_file_call(double from, double until) {
  const double how_far = fault().fraction * (own_rank() == 0 ? 1.0 : 0.66);
  if (due("save") && how_far >= from && how_far < until && !armed.exchange(true)) strike();
}

/// A save comes after the step was told to the job, with the number of the next one.
const bool installed = [] {
  if (std::getenv("ONDOL_FAULT") == nullptr || std::strcmp(fault().moment, "save") != 0) return false;
  ondol::FileOperations& table = ondol::file_operations();
  system_calls = table;
  table.fsync = [](int file) {
    at_file_call(0.0, 0.34);
    return system_calls.fsync(file);
  };
  table.write = [](int file, const void* data, size_t size) {
    if (size > 512) at_file_call(0.34, 0.67);  // no line of metrics
    return system_calls.write(file, data, size);
  };
  table.pwrite = [](int file, const void* data, size_t size, off_t offset) {
    at_file_call(0.34, 0.67);
    return system_calls.pwrite(file, data, size, offset);
  };
  table.rename = [](const char* from, const char* to) {
    at_file_call(0.67, 1.01);
    return system_calls.rename(from, to);
  };
  return true;
}();

}  // namespace

// ---- the wrapped functions ----

#define ONDOL_WRAPPED(result, name, symbol, ...)         \
  result real_##name(__VA_ARGS__) asm("__real_" symbol); \
  result wrapped_##name(__VA_ARGS__) asm("__wrap_" symbol);

ONDOL_WRAPPED(void, tape, "_ZN5ondol4TapeC1Ev", ondol::Tape*)
ONDOL_WRAPPED(void, backward, "_ZN5ondol4Tape8backwardERKNS_8VariableE", ondol::Tape*, const ondol::Variable&)
ONDOL_WRAPPED(void, set_step, "_ZN5ondol3Job8set_stepEl", ondol::Job*, long)
ONDOL_WRAPPED(ondol::CommEvent, all_reduce, "_ZN5ondol12Communicator10all_reduceERKNS_6TensorES3_RKNS_13ReduceOptionsE",
              ondol::Communicator*, const ondol::Tensor&, const ondol::Tensor&, const ondol::ReduceOptions&)
ONDOL_WRAPPED(ondol::CommEvent, reduce_scatter,
              "_ZN5ondol12Communicator14reduce_scatterERKNS_6TensorES3_RKNS_13ReduceOptionsE", ondol::Communicator*,
              const ondol::Tensor&, const ondol::Tensor&, const ondol::ReduceOptions&)

/// A tape begins with the forward of a micro-batch.
void wrapped_tape(ondol::Tape* tape) {
  forward_time.begun = Clock::now();
  if (due("forward")) strike_after(part_of(forward_time.last));
  real_tape(tape);
}

void wrapped_backward(ondol::Tape* tape, const ondol::Variable& loss) {
  forward_time.end();
  backward_time.begun = Clock::now();
  if (due("backward")) strike_after(part_of(backward_time.last));
  real_backward(tape, loss);
  backward_time.end();
}

void wrapped_set_step(ondol::Job* job, long step) {
  step_now = step;
  real_set_step(job, step);
}

ondol::CommEvent wrapped_all_reduce(ondol::Communicator* communicator, const ondol::Tensor& out,
                                    const ondol::Tensor& in, const ondol::ReduceOptions& reduce) {
  ondol::CommEvent event = real_all_reduce(communicator, out, in, reduce);
  if (due("collective")) strike_after(part_of(std::chrono::milliseconds(1)));
  return event;
}

ondol::CommEvent wrapped_reduce_scatter(ondol::Communicator* communicator, const ondol::Tensor& out,
                                        const ondol::Tensor& in, const ondol::ReduceOptions& reduce) {
  ondol::CommEvent event = real_reduce_scatter(communicator, out, in, reduce);
  if (due("collective")) strike_after(part_of(std::chrono::milliseconds(1)));
  return event;
}
