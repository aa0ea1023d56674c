#include <ondol/distributed/job.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <mutex>

#include <ondol/base/error.h>

#include "distributed/heartbeat.h"
#include "distributed/rank_list.h"
#include "distributed/wire.h"

namespace ondol {

namespace {

constexpr std::chrono::milliseconds kCollectiveTimeout = std::chrono::minutes(10);

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

using Properties = std::vector<std::pair<std::string, std::string>>;

std::string encode_properties(const std::string& host, const Properties& properties) {
  WireWriter out;
  out.text(host);
  out.u32(static_cast<uint32_t>(properties.size()));
  for (const auto& [name, value] : properties) {
    out.text(name);
    out.text(value);
  }
  return out.bytes();
}

struct Described {
  std::string host;
  Properties properties;
};

Described decode_properties(const std::string& bytes) {
  WireReader in(bytes);
  Described described;
  described.host = in.text(bytes.size());
  const uint32_t count = in.u32();
  for (uint32_t i = 0; i < count; ++i) {
    std::string name = in.text(bytes.size());
    described.properties.emplace_back(std::move(name), in.text(bytes.size()));
  }
  in.finish();
  return described;
}

/// "1f on ranks 0, 2 (host a), 2e on rank 1 (host b)"; "" when all have the same value.
std::string differences(const std::vector<Described>& all, size_t property) {
  std::vector<std::string> order;  // of the values, by their first ranks
  std::map<std::string, std::vector<int>> ranks;
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const std::string& value = all[rank].properties.at(property).second;
    std::vector<int>& having = ranks[value];
    if (having.empty()) order.push_back(value);
    having.push_back(static_cast<int>(rank));
  }
  if (order.size() == 1) return "";
  std::string text;
  for (const std::string& value : order) {
    const std::vector<int>& having = ranks[value];
    text += concat(text.empty() ? "" : ", ", value, " on ", rank_list(having), " (host ",
                   all[static_cast<size_t>(having.front())].host, ")");
  }
  return text;
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
  std::string next_key(const std::string& what) { return concat("job/", what, "/", calls++); }

  RankInfo info;
  JobOptions options;
  int exceptions = std::uncaught_exceptions();
  std::unique_ptr<StoreServer> server;
  std::shared_ptr<TcpStore> store;
  int64_t calls = 0;  // of collective functions: all ranks make the same
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
  store->gather(next_key("start"), info.rank, info.size, "", options.join_timeout);
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

void Job::check_same(const std::vector<std::pair<std::string, std::string>>& properties) {
  const std::vector<std::string> given =
      impl_->store->gather(impl_->next_key("check"), impl_->info.rank, impl_->info.size,
                           encode_properties(host_name(), properties), impl_->options.join_timeout);
  std::vector<Described> all;
  for (const std::string& bytes : given) all.push_back(decode_properties(bytes));
  for (size_t rank = 0; rank < all.size(); ++rank) {
    ONDOL_CHECK(all[rank].properties.size() == properties.size(), "ranks check different things: rank ", rank,
                " gives ", all[rank].properties.size(), " properties, rank ", impl_->info.rank, " ", properties.size());
  }
  for (size_t property = 0; property < properties.size(); ++property) {
    const std::string text = differences(all, property);
    if (!text.empty()) throw UsageError(concat("ranks differ in ", properties[property].first, ": ", text));
  }
}

bool Job::any(const std::string& name, bool flag) {
  const std::vector<std::string> flags = impl_->store->gather(impl_->next_key(name), impl_->info.rank, impl_->info.size,
                                                              flag ? "1" : "0", kCollectiveTimeout);
  for (const std::string& given : flags) {
    if (given == "1") return true;
  }
  return false;
}

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
