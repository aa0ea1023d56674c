// This process's part in a run of several (`ondol launch`, mpirun, srun, ...), which trains or evaluates; alone it does
// nothing.
#pragma once

#include <exception>
#include <memory>
#include <optional>
#include <string>

#include <ondol/distributed/communicator.h>
#include <ondol/distributed/job.h>
#include <ondol/train/trainer.h>

#include "verbs.h"

class OwnRank {
 public:
  /// Meets the other ranks and shares the host's CPUs and GPUs with those that run there. Throws Error when they do not
  /// come, UsageError when the environment or what was asked of it does not fit.
  /// `deterministic`: sums over the ranks have the same bytes for any number of them.
  OwnRank(const GlobalOptions& global, bool deterministic);

  bool first() const { return info_.rank == 0; }
  /// Null for one process.
  ondol::Communicator* communicator() const { return world_.get(); }
  /// The device of this rank.
  const std::string& device() const { return device_; }

  /// What work() gives; the others hear how far this rank is. When one of them fails, that error is thrown.
  template <class Work>
  auto run(const Work& work) {
    try {
      return work();
    } catch (...) {
      give_up(std::current_exception());
    }
  }
  /// Something begins for which the others may have to wait long, until what is returned goes away.
  [[nodiscard]] std::shared_ptr<void> long_work(const std::string& what);
  /// An observer that tells both the job and `shown` (rank 0's alone).
  ondol::TrainObserver& observer(ondol::TrainObserver& shown);

 private:
  class Observer;
  [[noreturn]] void give_up(std::exception_ptr error);

  ondol::RankInfo info_;
  std::string device_;
  std::unique_ptr<ondol::Job> job_;
  std::unique_ptr<ondol::Communicator> world_;
  std::shared_ptr<void> watch_;  // of world_ by job_
  std::shared_ptr<Observer> observer_;
};
