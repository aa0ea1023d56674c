#include "own_rank.h"

#include <algorithm>
#include <cstdlib>

#include <unistd.h>

#include <ondol/base/parallel.h>
#include <ondol/models/model.h>

#include "backend/backend.h"
#include "distributed/gpu_of_rank.h"
#include "output.h"

/// Rank 0's is shown, all are counted.
class OwnRank::Observer final : public ondol::TrainObserver {
 public:
  Observer(ondol::Job* job, ondol::TrainObserver* shown) : job_(job), shown_(shown) {}

  void on_start(const ondol::RunInfo& info) override {
    shown_->on_start(info);
    begin(info.first_step);
  }
  void on_step(const ondol::StepMetrics& metrics) override {
    shown_->on_step(metrics);
    begin(metrics.step + 1);
  }
  void on_evaluation(const ondol::EvaluationMetrics& metrics) override { shown_->on_evaluation(metrics); }
  void on_checkpoint(const std::string& directory) override { shown_->on_checkpoint(directory); }
  void on_warning(const std::string& text) override { shown_->on_warning(text); }
  std::shared_ptr<void> on_long_work(const std::string& what) override {
    return job_ == nullptr ? nullptr : job_->long_work(what);
  }

 private:
  void begin(int64_t step) const {
    if (job_ != nullptr) job_->set_step(step);
  }

  ondol::Job* job_;
  ondol::TrainObserver* shown_;
};

namespace {

std::string transport_wanted() {
  const char* name = std::getenv("ONDOL_TRANSPORT");
  return name == nullptr || *name == '\0' ? "auto" : name;
}

/// Who hangs in a kernel or a system call does not come to throw the error that ends the run.
void end_process(const std::string& message) {
  log(LogLevel::error, "error: " + one_line(message));
  ::_exit(1);
}

}  // namespace

OwnRank::OwnRank(const GlobalOptions& global, bool deterministic)
    : info_(ondol::find_rank_info()), device_(global.device) {
  if (info_.size == 1) return;
  if (global.threads == 0) ondol::set_num_threads(std::max(1, ondol::num_threads() / info_.local_size));
  ondol::Device device = ondol::resolve_device(global.device);
  if (device.type == ondol::DeviceType::cuda) {
    const ondol::Backend* cuda = ondol::find_backend(device.type);
    const bool named = global.device.find(':') != std::string::npos;
    device.index = ondol::gpu_of_rank(info_, cuda == nullptr ? 0 : cuda->device_count(), named ? device.index : -1);
  }
  device_ = ondol::to_string(device);
  ondol::JobOptions options = ondol::find_job_options();
  options.on_overdue = end_process;
  job_ = std::make_unique<ondol::Job>(info_, options);
  try {
    world_ = ondol::make_communicator(info_, job_->rendezvous(),
                                      {.transport = ondol::comm_transport_from_name(transport_wanted()),
                                       .device = device,
                                       .deterministic = deterministic});
  } catch (...) {
    job_->give_up(std::current_exception());
  }
  watch_ =
      job_->watch([this] { return world_->last_collective(); }, [this](const std::string& why) { world_->abort(why); });
}

ondol::TrainObserver& OwnRank::observer(ondol::TrainObserver& shown) {
  static ondol::TrainObserver silent;
  observer_ = std::make_shared<Observer>(job_.get(), first() ? &shown : &silent);
  return *observer_;
}

std::shared_ptr<void> OwnRank::long_work(const std::string& what) {
  return job_ == nullptr ? nullptr : job_->long_work(what);
}

void OwnRank::give_up(std::exception_ptr error) {
  if (job_ != nullptr) job_->give_up(error);
  std::rethrow_exception(error);
}
