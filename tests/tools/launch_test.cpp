// ondol launch: its command line, what its processes say and end with.
#include "launch_command.h"
#include "tools/program.h"

namespace ondol::testing {
namespace {

using Arguments = std::vector<std::string>;

TEST(Launch, TheCommandLineIsTwo) {
  Arguments arguments = {"--threads",    "2",     "launch", "--processes", "4",
                         "--device=cpu", "train", "c.json", "--set",       "a=b"};
  EXPECT_EQ(take_launched(arguments), (Arguments{"train", "c.json", "--set", "a=b"}));
  EXPECT_EQ(arguments, (Arguments{"--threads", "2", "launch", "--processes", "4", "--device=cpu"}));
  Arguments other = {"train", "launch"};
  EXPECT_EQ(take_launched(other), Arguments());
  EXPECT_EQ(other, (Arguments{"train", "launch"}));
}

TEST(Launch, FlagsOfTheCommandWin) {
  const Arguments flags = {"--threads", "1", "--device", "auto", "--quiet"};
  EXPECT_EQ(rank_command(flags, {"train", "c.json"}, 0),
            (Arguments{"--threads", "1", "--device", "auto", "--quiet", "train", "c.json"}));
  EXPECT_EQ(rank_command(flags, {"train", "c.json", "--threads=3", "--device", "cpu"}, 0),
            (Arguments{"--quiet", "train", "c.json", "--threads=3", "--device", "cpu"}));
}

TEST(Launch, AnotherStartContinuesTheRun) {
  EXPECT_EQ(rank_command({}, {"train", "never", "--resume", "never"}, 0),
            (Arguments{"train", "never", "--resume", "never"}));
  EXPECT_EQ(rank_command({}, {"train", "never", "--resume", "never"}, 1),
            (Arguments{"train", "never", "--resume", "auto"}));
  EXPECT_EQ(rank_command({}, {"train", "--resume=never"}, 2), (Arguments{"train", "--resume=auto"}));
  EXPECT_EQ(rank_command({}, {"train", "--resume", "run"}, 2), (Arguments{"train", "--resume", "run"}));
}

TEST(Launch, NonsenseIsRefused) {
  expect_failure({"launch"}, 2, "--processes");
  expect_failure({"launch", "--processes", "0", "doctor"}, 2, "--processes");
  expect_failure({"launch", "--processes", "-1", "doctor"}, 2, "--processes");
  expect_failure({"launch", "--processes", "2"}, 2, "no verb to run");
  expect_failure({"launch", "--processes", "2", "frobnicate"}, 2, "unknown verb \"frobnicate\"");
  expect_failure({"launch", "--processes", "2", "launch", "--processes", "2", "doctor"}, 2,
                 "launch does not start itself");
  expect_failure({"launch", "--procesess", "2", "doctor"}, 2, "did you mean --processes?");
  expect_failure({"launch", "--processes", "2", "train"}, 2, "CONFIG.json");
  expect_failure({"launch", "--processes", "2", "--transport", "pigeon", "doctor"}, 2, "pigeon");
  expect_failure({"launch", "--processes", "2", "--nodes", "2", "doctor"}, 2, "MASTER_ADDR");
  expect_failure({"launch", "--processes", "2", "--node-rank", "1", "doctor"}, 2, "no node 1 of 1");
  expect_failure({"launch", "--processes", "2", "--nodes", "2", "--restarts", "1", "doctor"}, 2, "--restarts");
}

TEST(Launch, StandardOutputIsThatOfRankZero) {
  const TinyModel model;
  const ProgramResult alone = run_program({"--json", "inspect", model.path()});
  const ProgramResult launched = run_program({"launch", "--processes", "3", "--json", "inspect", model.path()});
  EXPECT_EQ(launched.code, 0) << launched.err;
  EXPECT_EQ(launched.out, alone.out);
  for (const char* prefix : {"[1] {", "[2] {"}) EXPECT_NE(launched.err.find(prefix), std::string::npos) << launched.err;
}

TEST(Launch, TheCodeOfTheFirstFailedRankIsThatOfTheLauncher) {
  const ProgramResult failed = run_program({"launch", "--processes", "2", "--restarts", "3", "inspect", "/nowhere"});
  const ProgramResult alone = run_program({"inspect", "/nowhere"});
  EXPECT_EQ(failed.code, alone.code);
  const std::string complaint = "] " + alone.err.substr(0, alone.err.find('\n'));
  const size_t first = failed.err.find(complaint);
  EXPECT_NE(first, std::string::npos) << failed.err;
  EXPECT_EQ(failed.err.find(complaint, first + 1), std::string::npos) << failed.err;
  EXPECT_NE(failed.err.find("failed first: exit code " + std::to_string(alone.code)), std::string::npos) << failed.err;
}

}  // namespace
}  // namespace ondol::testing
