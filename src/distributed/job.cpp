#include <ondol/distributed/job.h>

#include <cmath>
#include <cstdlib>
#include <mutex>

#include <ondol/base/error.h>

#include "distributed/heartbeat.h"

namespace ondol {

namespace {

std::chrono::milliseconds seconds_variable(const char* name, std::chrono::milliseconds preset) {
  const char* value = std::getenv(name);
  if (value == nullptr) return preset;
  char* end = nullptr;
  const double seconds = std::strtod(value, &end);
  if (end == value || *end != '\0' || !(seconds >= 0.1 && seconds <= 86400.0)) {
    throw UsageError(
        concat("wrong environment: ", name, " is \"", value, "\", not a number of seconds from 0.1 to 86400"));
  }
  return std::chrono::milliseconds(std::llround(seconds * 1000.0));
}

}  // namespace

JobOptions find_job_options() {
  JobOptions options;
  options.limits.silence = seconds_variable("ONDOL_SILENCE_SECONDS", options.limits.silence);
  options.limits.stuck = seconds_variable("ONDOL_STUCK_SECONDS", options.limits.stuck);
  options.join_timeout = seconds_variable("ONDOL_JOIN_SECONDS", options.join_timeout);
  options.leave_time = seconds_variable("ONDOL_LEAVE_SECONDS", options.leave_time);
  return options;
}

struct Job::Impl {
  Impl(const RankInfo& rank_info, const JobOptions& job_options);
  ~Impl();
  void on_failure(const std::string& message);

  RankInfo info;
  JobOptions options;
  int exceptions = std::uncaught_exceptions();
  std::unique_ptr<StoreServer> server;
  std::shared_ptr<TcpStore> store;
  std::mutex abort_mutex;
  std::function<void(const std::string&)> abort;
  std::unique_ptr<Heartbeat> heart;
};

Job::Impl::Impl(const RankInfo& rank_info, const JobOptions& job_options) : info(rank_info), options(job_options) {
  if (info.rank == 0 && !info.store_in_launcher) {
    server = std::make_unique<StoreServer>(StoreServerOptions{.secret = info.job_secret,
                                                              .port = info.master_port,
                                                              .loopback_only = info.local_size == info.size,
                                                              .limits = options.limits});
    info.master_port = server->port();
    info.master_address = "127.0.0.1";
  }
  store = std::make_shared<TcpStore>(info.master_address, info.master_port, info.job_secret, options.join_timeout);
  heart = std::make_unique<Heartbeat>(info, options, [this](const std::string& why) { on_failure(why); });
  store->gather("job/start", info.rank, info.size, "", options.join_timeout);
}

Job::Impl::~Impl() {
  if (std::uncaught_exceptions() > exceptions && heart && !heart->failure())
    heart->report("ended with an error", false);
  {
    const std::lock_guard lock(abort_mutex);
    abort = nullptr;
  }
  heart.reset();
  if (server) server->wait_until_left(options.leave_time + std::chrono::seconds(1));
}

void Job::Impl::on_failure(const std::string& message) {
  {
    const std::lock_guard lock(abort_mutex);
    if (abort) abort(message);
  }
  store->interrupt(message);
}

Job::Job(const RankInfo& info, const JobOptions& options) : impl_(std::make_unique<Impl>(info, options)) {}

Job::~Job() = default;

const RankInfo& Job::info() const { return impl_->info; }

TcpStore& Job::store() const { return *impl_->store; }

std::shared_ptr<Rendezvous> Job::rendezvous() const { return impl_->store; }

std::shared_ptr<void> Job::watch(std::function<std::string()> last_collective,
                                 std::function<void(const std::string&)> abort) {
  impl_->heart->set_last_collective(std::move(last_collective));
  {
    const std::lock_guard lock(impl_->abort_mutex);
    impl_->abort = std::move(abort);
  }
  check();
  return {impl_.get(), [](Impl* impl) {
            impl->heart->set_last_collective(nullptr);
            const std::lock_guard lock(impl->abort_mutex);
            impl->abort = nullptr;
          }};
}

void Job::set_step(int64_t step) {
  impl_->heart->change([step](Heartbeat::Status& status) { status.step = step; });
  check();
}

void Job::progress() {
  impl_->heart->change([](Heartbeat::Status& status) { ++status.progress; });
}

std::shared_ptr<void> Job::long_work(const std::string& what) {
  Heartbeat& heart = *impl_->heart;
  heart.change([&](Heartbeat::Status& status) { status.work = what; });
  return {&heart, [](Heartbeat* owner) {
            owner->change([](Heartbeat::Status& status) {
              status.work.clear();
              ++status.progress;
            });
          }};
}

void Job::check() const {
  const std::optional<Heartbeat::Failure> failure = impl_->heart->failure();
  if (!failure) return;
  if (failure->usage) throw UsageError(failure->message);
  throw Error(failure->message);
}

void Job::give_up(std::exception_ptr error) {
  std::string reason = "unknown failure";
  bool for_all = false;  // wrong settings are wrong everywhere: each rank has the best message itself
  try {
    std::rethrow_exception(error);
  } catch (const UsageError& known) {
    reason = known.what();
    for_all = true;
  } catch (const std::exception& known) {
    reason = known.what();
  } catch (...) {
  }
  const std::optional<Heartbeat::Failure> failure = impl_->heart->report(reason, !for_all);
  if (failure && !for_all && failure->rank != impl_->info.rank) check();
  std::rethrow_exception(error);
}

}  // namespace ondol
