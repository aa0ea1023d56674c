// This process as one of the ranks of a job: it meets the others, shows that it lives and hears when one of them fails.
//
//   const RankInfo info = find_rank_info();
//   Job job(info, find_job_options());                     // all ranks come together, or an error names who is missing
//   auto world = make_communicator(info, job.rendezvous());
//   auto watched = job.watch([&] { return world->last_collective(); }, [&](const auto& why) { world->abort(why); });
//   try {
//     for (int64_t step = 1; step <= steps; ++step) {
//       job.set_step(step);                                // throws once a rank has failed
//       ...                                                // whether to stop goes with the sums of the step
//     }
//   } catch (...) {
//     job.give_up(std::current_exception());               // tells the others; throws what is really the cause
//   }
//
// Each rank tells the store (held by the launcher or by rank 0) twice a second how far it is. A rank whose connection
// closes without a farewell has died: the others know within a second. One of which nothing is heard for
// `limits.silence`, or which others wait for without any progress for `limits.stuck`, hangs: they know within 30
// seconds with the times that are preset. All then throw the same error, one line that names rank, host, process, step
// and last collective. Whoever does not come to throw it, because it hangs in a system call or a kernel, is given
// `leave_time` and then to `on_overdue`, where the program can end itself.
//
// A single process needs no Job.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>

#include <ondol/distributed/rank_info.h>
#include <ondol/distributed/store.h>

namespace ondol {

struct JobOptions {
  StoreLimits limits;
  std::chrono::milliseconds join_timeout = std::chrono::minutes(2);  // all ranks must have come by then
  std::chrono::milliseconds leave_time = std::chrono::seconds(5);
  /// Called by a thread of the job with the error's text when this process has not left in time; may end the process.
  std::function<void(const std::string& message)> on_overdue;
};

/// The times above from ONDOL_SILENCE_SECONDS, ONDOL_STUCK_SECONDS, ONDOL_JOIN_SECONDS and ONDOL_LEAVE_SECONDS, where
/// they are set. Throws UsageError for what is no number of seconds from 0.1 to 86,400.
JobOptions find_job_options();

class Job {
 public:
  /// Collective. Rank 0 starts the store unless the launcher holds it. Throws Error naming the ranks that did not come,
  /// UsageError when they disagree about the number of ranks or the version of the program.
  explicit Job(const RankInfo& info, const JobOptions& options = {});
  /// Takes leave. The rank that holds the store stays until the others have left, for some seconds at most.
  ~Job();
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  const RankInfo& info() const;
  TcpStore& store() const;
  std::shared_ptr<Rendezvous> rendezvous() const;

  /// Where to look for the last collective ("all_reduce #12, 4096 bytes") and how to end the waiting in it; both are
  /// called by a thread of the job, as long as the returned object lives.
  [[nodiscard]] std::shared_ptr<void> watch(std::function<std::string()> last_collective,
                                            std::function<void(const std::string&)> abort);
  /// The step that begins. Also check().
  void set_step(int64_t step);
  /// A sign of progress within a long step.
  void progress();
  /// What keeps this rank from taking part for long, as long as the returned object lives: it is then not stuck.
  std::shared_ptr<void> long_work(const std::string& what);

  /// Throws the error once a rank has failed.
  void check() const;
  /// To be called with what has ended the work of this rank. Tells the others and throws that exception again, or the
  /// failure of another rank when that is the cause.
  [[noreturn]] void give_up(std::exception_ptr error);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ondol
