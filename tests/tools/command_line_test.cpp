// Flags, verbs, exit codes and the two streams.
#include "tools/program.h"

namespace ondol::testing {
namespace {

TEST(CommandLine, VersionAndHelp) {
  const ProgramResult version = run_program({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_TRUE(version.out.starts_with("ondol ")) << version.out;
  for (const char* verb : {"train", "launch", "plot", "generate", "chat", "forward", "eval", "tokenizer", "data",
                           "inspect", "bench", "doctor"}) {
    const ProgramResult help = run_program({verb, "--help"});
    EXPECT_EQ(help.code, 0) << verb;
    EXPECT_NE(help.out.find(std::string("ondol ") + verb), std::string::npos) << help.out;
    EXPECT_EQ(help.err, "");
    EXPECT_NE(run_program({"--help"}).out.find(verb), std::string::npos);
  }
}

TEST(CommandLine, WrongUsageIsOneLineAndCodeTwo) {
  expect_failure({}, 2, "subcommand is required");
  expect_failure({"--frobnicate"}, 2, "unknown option --frobnicate");
  expect_failure({"--thread", "2"}, 2, "did you mean --threads?");
  expect_failure({"frobnicate"}, 2, "unknown verb \"frobnicate\"");
  expect_failure({"generat"}, 2, "did you mean \"generate\"?");
  expect_failure({"frobnicate"}, 2, "verbs: train, launch, plot, generate");
  expect_failure({"generate", "--promt", "x"}, 2, "did you mean --prompt?");
  expect_failure({"generate"}, 2, "MODEL_DIR");
  expect_failure({"tokenizer"}, 2, "ondol tokenizer");
  expect_failure({"--threads", "0", "doctor"}, 2, "--threads");
  expect_failure({"doctor", "--log-level", "loud"}, 2, "unknown log level \"loud\"");
  expect_failure({"bench", "train", "--config", "x.json", "--batch", "many", "--seq", "4"}, 2, "--batch");
  expect_failure({"eval", "/nowhere", "--task", "chess", "--data", "x"}, 2, "unknown task \"chess\"");
}

TEST(CommandLine, GlobalFlagsStandBeforeOrBehindTheVerb) {
  const TinyModel model;
  expect_failure({"--device", "tpu", "generate", model.path(), "--prompt", "x"}, 2, "unknown device \"tpu\"");
  expect_failure({"generate", model.path(), "--prompt", "x", "--device", "tpu"}, 2, "unknown device \"tpu\"");
  expect_failure({"generate", "--dtype", "f8", model.path(), "--prompt", "x"}, 2, "unknown dtype \"f8\"");
  const ProgramResult before = run_program({"--json", "inspect", model.path()});
  const ProgramResult after = run_program({"inspect", model.path(), "--json"});
  EXPECT_EQ(before.code, 0);
  EXPECT_EQ(before.out, after.out);
  EXPECT_TRUE(before.out.starts_with("{"));
}

TEST(CommandLine, AFullDiskIsReported) {
  const ProgramResult result = run_program({"--version"}, "", "/dev/full");
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("error: cannot write to standard output: No space left on device"), std::string::npos);
}

}  // namespace
}  // namespace ondol::testing
