// Ranks from the variables of the launchers, as `mpirun`, `srun` and `torchrun` set them.
#include <ondol/distributed/rank_info.h>

#include <map>

#include <ondol/base/error.h>

#include <gtest/gtest.h>

#include "distributed/gpu_of_rank.h"
#include "distributed/host_list.h"
#include "support/error_of.h"

namespace ondol {
namespace {

using Values = std::map<std::string, std::string>;

RankInfo find(const Values& values) {
  return find_rank_info([&](const std::string& name) -> std::optional<std::string> {
    const auto found = values.find(name);
    if (found == values.end()) return std::nullopt;
    return found->second;
  });
}

void expect_refused(const Values& values, const std::string& what) {
  try {
    find(values);
    FAIL() << "accepted; wanted: " << what;
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
  }
}

const Values kTorchrun = {{"RANK", "3"},
                          {"WORLD_SIZE", "4"},
                          {"LOCAL_RANK", "1"},
                          {"LOCAL_WORLD_SIZE", "2"},
                          {"MASTER_PORT", "29500"},
                          {"MASTER_ADDR", "h1"},
                          {"ONDOL_JOB_SECRET", "secret"}};
const Values kOpenMpi = {{"OMPI_COMM_WORLD_RANK", "1"},
                         {"OMPI_COMM_WORLD_SIZE", "2"},
                         {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                         {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                         {"PMIX_NAMESPACE", "2817327105"}};
const Values kSlurm = {{"SLURM_PROCID", "4"},
                       {"SLURM_NODEID", "1"},
                       {"SLURM_LOCALID", "1"},
                       {"SLURM_JOB_ID", "77"},
                       {"SLURM_STEP_ID", "0"},
                       {"SLURM_STEP_NUM_TASKS", "5"},
                       {"SLURM_STEP_NUM_NODES", "2"},
                       {"SLURM_STEP_TASKS_PER_NODE", "3,2"},
                       {"SLURM_STEP_NODELIST", "gpu[07-08]"},
                       {"ONDOL_JOB_SECRET", "secret"}};

Values with(Values values, const Values& more) {
  for (const auto& [name, value] : more) values[name] = value;
  return values;
}

Values without(Values values, const std::string& name) {
  values.erase(name);
  return values;
}

TEST(RankInfo, OneProcess) {
  const RankInfo info = find({{"HOME", "/root"}, {"MASTER_ADDR", "h1"}});
  EXPECT_EQ(info.rank, 0);
  EXPECT_EQ(info.size, 1);
  EXPECT_EQ(info.started_by, "");
}

TEST(RankInfo, WhatTheLauncherSetsIsWhatARankFinds) {
  const RankInfo given{.rank = 5,
                       .size = 8,
                       .local_rank = 1,
                       .local_size = 4,
                       .master_address = "fe80::1",
                       .master_port = 4000,
                       .job_secret = "ab12",
                       .store_in_launcher = true,
                       .started_by = "ondol launch"};
  Values values = kSlurm;  // `srun ondol launch`: the variables of the step stay visible
  for (const std::string& line : launch_variables(given)) {
    values[line.substr(0, line.find('='))] = line.substr(line.find('=') + 1);
  }
  const RankInfo found = find(values);
  EXPECT_EQ(launch_variables(found), launch_variables(given));
  EXPECT_TRUE(found.store_in_launcher);
  expect_refused(without(values, "ONDOL_SIZE"), "ONDOL_SIZE is not");
  expect_refused(with(values, {{"ONDOL_RANK", "8"}}), "ONDOL_RANK is \"8\"");
  expect_refused(with(values, {{"ONDOL_MASTER_PORT", "70000"}}), "ONDOL_MASTER_PORT");
}

TEST(RankInfo, Torchrun) {
  const RankInfo info = find(kTorchrun);
  EXPECT_EQ(info.rank, 3);
  EXPECT_EQ(info.size, 4);
  EXPECT_EQ(info.local_rank, 1);
  EXPECT_EQ(info.local_size, 2);
  EXPECT_EQ(info.master_address, "h1");
  EXPECT_EQ(info.master_port, 29500);
  EXPECT_EQ(info.job_secret, "secret");
  EXPECT_FALSE(info.store_in_launcher);

  const RankInfo here = find({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "localhost"}, {"MASTER_PORT", "1"}});
  EXPECT_EQ(here.local_rank, 1);
  EXPECT_EQ(here.local_size, 2);
  EXPECT_FALSE(here.job_secret.empty());
  EXPECT_EQ(find({{"RANK", "0"}, {"WORLD_SIZE", "1"}}).size, 1);
}

TEST(RankInfo, HalfOfTorchrunIsRefused) {
  expect_refused(without(kTorchrun, "RANK"), "WORLD_SIZE is set, RANK is not");
  expect_refused(without(kTorchrun, "WORLD_SIZE"), "RANK is set, WORLD_SIZE is not");
  expect_refused(without(kTorchrun, "MASTER_ADDR"), "MASTER_ADDR is not");
  expect_refused(without(kTorchrun, "LOCAL_WORLD_SIZE"), "LOCAL_RANK is set, LOCAL_WORLD_SIZE is not");
  expect_refused(without(kTorchrun, "ONDOL_JOB_SECRET"), "no ONDOL_JOB_SECRET");
  expect_refused(with(kTorchrun, {{"RANK", "4"}}), "RANK is \"4\", not a whole number from 0 to 3");
  expect_refused(with(kTorchrun, {{"RANK", "-1"}}), "RANK is \"-1\"");
  expect_refused(with(kTorchrun, {{"WORLD_SIZE", "0"}}), "WORLD_SIZE is \"0\"");
  expect_refused(with(kTorchrun, {{"WORLD_SIZE", "4x"}}), "WORLD_SIZE is \"4x\"");
  expect_refused(with(kTorchrun, {{"MASTER_PORT", ""}}), "MASTER_PORT is \"\"");
}

TEST(RankInfo, OpenMpi) {
  const RankInfo info = find(kOpenMpi);
  EXPECT_EQ(info.rank, 1);
  EXPECT_EQ(info.size, 2);
  EXPECT_EQ(info.master_address, "127.0.0.1");
  EXPECT_GE(info.master_port, 20000);
  EXPECT_LT(info.master_port, 30000);
  EXPECT_EQ(info.master_port, find(with(kOpenMpi, {{"OMPI_COMM_WORLD_RANK", "0"}})).master_port);
  EXPECT_EQ(info.job_secret, find(with(kOpenMpi, {{"OMPI_COMM_WORLD_RANK", "0"}})).job_secret);
  EXPECT_NE(info.job_secret, find(with(kOpenMpi, {{"PMIX_NAMESPACE", "1"}})).job_secret);

  const Values two_hosts = with(kOpenMpi, {{"OMPI_COMM_WORLD_LOCAL_SIZE", "1"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "0"}});
  expect_refused(two_hosts, "no MASTER_ADDR");
  expect_refused(with(two_hosts, {{"MASTER_ADDR", "h1"}}), "no ONDOL_JOB_SECRET");
  EXPECT_EQ(find(with(two_hosts, {{"MASTER_ADDR", "h1"}, {"ONDOL_JOB_SECRET", "s"}})).master_address, "h1");
  expect_refused(without(kOpenMpi, "OMPI_COMM_WORLD_SIZE"), "OMPI_COMM_WORLD_SIZE is not");
}

TEST(RankInfo, Slurm) {
  const RankInfo info = find(kSlurm);
  EXPECT_EQ(info.rank, 4);
  EXPECT_EQ(info.size, 5);
  EXPECT_EQ(info.local_rank, 1);
  EXPECT_EQ(info.local_size, 2);
  EXPECT_EQ(info.master_address, "gpu07");
  EXPECT_EQ(info.job_secret, "secret");
  EXPECT_NE(info.master_port, find(with(kSlurm, {{"SLURM_STEP_ID", "1"}})).master_port);
  expect_refused(with(kSlurm, {{"SLURM_STEP_TASKS_PER_NODE", "5"}}), "SLURM_STEP_TASKS_PER_NODE");
  expect_refused(without(kSlurm, "ONDOL_JOB_SECRET"), "no ONDOL_JOB_SECRET");
  // A batch script has no step of its own: one process.
  EXPECT_EQ(find({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}, {"SLURM_JOB_ID", "77"}}).size, 1);
}

TEST(RankInfo, ContradictionsAreRefused) {
  const Values agreeing =
      with(kOpenMpi, {{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", "4000"}});
  EXPECT_EQ(find(agreeing).rank, 1);
  expect_refused(with(agreeing, {{"RANK", "0"}}), "RANK and WORLD_SIZE say rank 0 of 2, OMPI_COMM_WORLD_RANK");
  expect_refused(with(kTorchrun, {{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "2"}}), "SLURM_PROCID");
}

TEST(HostList, FirstHostAndCounts) {
  EXPECT_EQ(first_host("alone"), "alone");
  EXPECT_EQ(first_host("a1,b2"), "a1");
  EXPECT_EQ(first_host("node[007-009,12],other"), "node007");
  EXPECT_EQ(first_host("rack[1-2]n[3,5]x,other"), "rack1n3x");
  EXPECT_EQ(first_host(""), "");
  EXPECT_EQ(nth_repeated_count("4", 0), 4);
  EXPECT_EQ(nth_repeated_count("4(x2),3", 1), 4);
  EXPECT_EQ(nth_repeated_count("4(x2),3", 2), 3);
  EXPECT_EQ(nth_repeated_count("4(x2),3", 3), std::nullopt);
  EXPECT_EQ(nth_repeated_count("4(x2", 0), std::nullopt);
  EXPECT_EQ(nth_repeated_count("x", 0), std::nullopt);
}

TEST(GpuOfRank, EachProcessOfAHostHasItsOwn) {
  const auto rank = [](int local_rank, int local_size) {
    return RankInfo{.rank = 4 + local_rank, .size = 8, .local_rank = local_rank, .local_size = local_size};
  };
  EXPECT_EQ(gpu_of_rank(rank(0, 4), 4, -1), 0);
  EXPECT_EQ(gpu_of_rank(rank(3, 4), 8, -1), 3);
  EXPECT_EQ(gpu_of_rank(rank(0, 1), 8, 5), 5);
  EXPECT_EQ(testing::error_of([&] { gpu_of_rank(rank(1, 3), 2, -1); }),
            "the run has 3 processes on this host, but rank 5 sees 2 GPUs there");
  EXPECT_EQ(testing::error_of([&] { gpu_of_rank(rank(1, 2), 8, 0); }),
            "the run has 2 processes on this host, which cannot share one GPU (--device cuda:0)");
}

}  // namespace
}  // namespace ondol
