#include <ondol/distributed/rank_info.h>

#include <array>
#include <charconv>
#include <cstdlib>

#include <ondol/base/error.h>

#include "distributed/host_list.h"

namespace ondol {

namespace {

constexpr const char* kSecretHint = "export ONDOL_JOB_SECRET=$(openssl rand -hex 16) once and pass it to all ranks";

/// Reads variables and says which one is wrong.
class Variables {
 public:
  explicit Variables(const EnvironmentLookup& lookup) : lookup_(lookup) {}

  bool has(const std::string& name) const { return lookup_(name).has_value(); }
  std::string text(const std::string& name) const { return lookup_(name).value_or(""); }

  int number(const std::string& name, int low, int high) const {
    const std::string value = text(name);
    int number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (value.empty() || error != std::errc{} || end != value.data() + value.size() || number < low || number > high) {
      throw UsageError(
          concat("wrong environment: ", name, " is \"", value, "\", not a whole number from ", low, " to ", high));
    }
    return number;
  }

  /// All of them or, which gives false, none of them.
  template <size_t n>
  bool all_or_none(const std::array<const char*, n>& names) const {
    const char* present = nullptr;
    const char* missing = nullptr;
    for (const char* name : names) (has(name) ? present : missing) = name;
    if (present != nullptr && missing != nullptr) {
      throw UsageError(concat("wrong environment: ", present, " is set, ", missing, " is not"),
                       "set both, or unset both for a single process");
    }
    return present != nullptr;
  }

 private:
  const EnvironmentLookup& lookup_;
};

constexpr int kMaxRanks = 1 << 20;

bool is_loopback(const std::string& address) {
  return address == "localhost" || address == "::1" || address.starts_with("127.");
}

/// A port that all ranks find for themselves, below those that systems give out (FNV-1a over the job's name).
int port_of_job(const std::string& job) {
  uint32_t hash = 2166136261u;
  for (const char c : job) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  return 20000 + static_cast<int>(hash % 10000);
}

void read_ranks(const Variables& variables, const std::array<const char*, 4>& names, RankInfo& info) {
  info.size = variables.number(names[1], 1, kMaxRanks);
  info.rank = variables.number(names[0], 0, info.size - 1);
  info.local_size = variables.number(names[3], 1, info.size);
  info.local_rank = variables.number(names[2], 0, info.local_size - 1);
}

/// Where to meet: the variables if they are there, `address` and a port made of the job's name otherwise.
void find_master(const Variables& variables, const std::string& address, const std::string& job, RankInfo& info) {
  info.master_address = variables.has("MASTER_ADDR") ? variables.text("MASTER_ADDR") : address;
  info.master_port = variables.has("MASTER_PORT") ? variables.number("MASTER_PORT", 1, 65535) : port_of_job(job);
  if (info.master_address.empty()) {
    throw UsageError(concat("wrong environment: no MASTER_ADDR for a job on several hosts (", info.started_by, ")"),
                     "set MASTER_ADDR to the host of rank 0");
  }
  info.job_secret = variables.text("ONDOL_JOB_SECRET");
  if (!info.job_secret.empty()) return;
  if (info.local_size < info.size) {
    throw UsageError(
        concat("wrong environment: no ONDOL_JOB_SECRET for a job on several hosts (", info.started_by, ")"),
        kSecretHint);
  }
  info.job_secret = "job " + job;  // keeps jobs apart; the store listens to this host alone
}

void read_launch(const Variables& variables, RankInfo& info) {
  read_ranks(variables, {"ONDOL_RANK", "ONDOL_SIZE", "ONDOL_LOCAL_RANK", "ONDOL_LOCAL_SIZE"}, info);
  info.started_by = "ondol launch";
  info.master_address = variables.text("ONDOL_MASTER_ADDRESS");
  info.master_port = variables.number("ONDOL_MASTER_PORT", 1, 65535);
  info.job_secret = variables.text("ONDOL_JOB_SECRET");
  info.store_in_launcher = true;
}

void read_torchrun(const Variables& variables, RankInfo& info) {
  info.started_by = "torchrun";
  info.size = variables.number("WORLD_SIZE", 1, kMaxRanks);
  info.rank = variables.number("RANK", 0, info.size - 1);
  if (info.size > 1) variables.all_or_none<4>({"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"});
  const std::string address = variables.has("MASTER_ADDR") ? variables.text("MASTER_ADDR") : "127.0.0.1";
  if (is_loopback(address) && !variables.has("LOCAL_WORLD_SIZE")) {
    info.local_size = info.size;
    info.local_rank = variables.has("LOCAL_RANK") ? variables.number("LOCAL_RANK", 0, info.size - 1) : info.rank;
  } else if (variables.all_or_none<2>({"LOCAL_RANK", "LOCAL_WORLD_SIZE"})) {
    read_ranks(variables, {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"}, info);
  }
  const std::string port = variables.text("MASTER_PORT");
  find_master(variables, address, "at port " + port, info);
}

void read_open_mpi(const Variables& variables, RankInfo& info) {
  info.started_by = "Open MPI";
  read_ranks(
      variables,
      {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"},
      info);
  find_master(variables, info.local_size == info.size ? "127.0.0.1" : "", "mpi " + variables.text("PMIX_NAMESPACE"),
              info);
}

void read_slurm(const Variables& variables, RankInfo& info) {
  info.started_by = "SLURM";
  info.size = variables.number("SLURM_STEP_NUM_TASKS", 1, kMaxRanks);
  info.rank = variables.number("SLURM_PROCID", 0, info.size - 1);
  const int nodes = variables.number("SLURM_STEP_NUM_NODES", 1, info.size);
  const int node = variables.number("SLURM_NODEID", 0, nodes - 1);
  const std::string counts = variables.text("SLURM_STEP_TASKS_PER_NODE");
  const std::optional<int> tasks = nth_repeated_count(counts, node);
  if (!tasks || *tasks < 1 || *tasks > info.size) {
    throw UsageError(
        concat("wrong environment: SLURM_STEP_TASKS_PER_NODE \"", counts, "\" says nothing about node ", node));
  }
  info.local_size = *tasks;
  info.local_rank = variables.number("SLURM_LOCALID", 0, info.local_size - 1);
  find_master(variables, nodes == 1 ? "127.0.0.1" : first_host(variables.text("SLURM_STEP_NODELIST")),
              concat("slurm ", variables.text("SLURM_JOB_ID"), ".", variables.text("SLURM_STEP_ID")), info);
}

/// Two launchers that disagree: the ranks of one of them are not meant for this program.
void check_agreement(const Variables& variables, const char* rank, const char* size, const RankInfo& info) {
  if (variables.number(rank, 0, kMaxRanks) == info.rank && variables.number(size, 1, kMaxRanks) == info.size) return;
  throw UsageError(concat("contradicting environment: RANK and WORLD_SIZE say rank ", info.rank, " of ", info.size,
                          ", ", rank, " and ", size, " say rank ", variables.text(rank), " of ", variables.text(size)),
                   "unset the variables that are not meant for this program");
}

}  // namespace

RankInfo find_rank_info(const EnvironmentLookup& lookup) {
  const Variables variables(lookup);
  const bool torchrun = !variables.has("ONDOL_RANK") && variables.all_or_none<2>({"RANK", "WORLD_SIZE"});
  const bool open_mpi = variables.all_or_none<4>(
      {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"});
  // A batch script has SLURM_PROCID too; only the tasks of a step are ranks.
  const bool slurm = variables.has("SLURM_PROCID") && variables.has("SLURM_STEP_NUM_TASKS");
  RankInfo info;
  if (variables.all_or_none<6>({"ONDOL_RANK", "ONDOL_SIZE", "ONDOL_LOCAL_RANK", "ONDOL_LOCAL_SIZE",
                                "ONDOL_MASTER_ADDRESS", "ONDOL_MASTER_PORT"})) {
    read_launch(variables, info);
  } else if (torchrun) {
    read_torchrun(variables, info);
    if (open_mpi) check_agreement(variables, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", info);
    if (slurm && !open_mpi) check_agreement(variables, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", info);
  } else if (open_mpi) {
    read_open_mpi(variables, info);
  } else if (slurm) {
    read_slurm(variables, info);
  }
  return info;
}

RankInfo find_rank_info() {
  return find_rank_info([](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr) return std::nullopt;
    return value;
  });
}

std::vector<std::string> launch_variables(const RankInfo& info) {
  return {concat("ONDOL_RANK=", info.rank),
          concat("ONDOL_SIZE=", info.size),
          concat("ONDOL_LOCAL_RANK=", info.local_rank),
          concat("ONDOL_LOCAL_SIZE=", info.local_size),
          concat("ONDOL_MASTER_ADDRESS=", info.master_address),
          concat("ONDOL_MASTER_PORT=", info.master_port),
          concat("ONDOL_JOB_SECRET=", info.job_secret)};
}

}  // namespace ondol
