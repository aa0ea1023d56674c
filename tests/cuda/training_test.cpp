// Training on cuda:0, which in this program is the emulated backend: the golden curves, and a model of random weights
// beside the same run on the CPU.
#include <cstring>

#include "support/cuda_emulation/emulator.h"
#include "support/cuda_emulation/seeds.h"
#include "support/golden_curve.h"
#include "support/temporary_directory.h"
#include "train/tiny_run.h"

namespace ondol::testing {
namespace {

class EmulatedGoldenCurve : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(HfTiny, EmulatedGoldenCurve,
                         ::testing::Values("gpt2", "llama-gqa", "bert", "electra-discriminator",
                                           "bert-question-answering", "t5", "bart"));

TEST_P(EmulatedGoldenCurve, ThreeSteps) {
  const std::string data = test_data();
  if (data.empty()) GTEST_SKIP() << "skipped: ONDOL_TEST_DATA is not set";
  const std::string model = data + "/hf_tiny/" + GetParam();
  const TemporaryDirectory directory;
  for (const uint64_t seed : emulation::seeds()) {
    emulation::set_seed(seed);
    const uint64_t launches = emulation::launch_count();
    Curve curve;
    Trainer(golden_config(model, directory / std::to_string(seed), 3), {.device = "cuda:0", .observer = &curve}).run();
    ASSERT_EQ(curve.loss.size(), 3u);
    expect_golden_curve(model, curve);
    EXPECT_GT(emulation::launch_count() - launches, 100u) << "the kernels were not used";
    EXPECT_FALSE(::testing::Test::HasFailure()) << "ONDOL_EMULATION_SEED=" << seed;
  }
}

struct TrainedRun {
  Curve curve;
  std::string weights;  // bytes of the final model
};

TrainedRun train(const TemporaryDirectory& directory, const std::string& name, const std::string& device,
                 const std::vector<std::string>& overrides) {
  TrainedRun run;
  Trainer(tiny_config(directory, name, overrides), {.device = device, .observer = &run.curve}).run();
  run.weights = directory.read(name + "/final/model.safetensors");
  EXPECT_GT(run.weights.size(), 1000u);
  return run;
}

/// Dropout, evaluation, checkpoints and micro batches are in the run.
TEST(EmulatedTraining, FollowsTheCpu) {
  const TemporaryDirectory directory;
  write_tiny_inputs(directory, 0.1);
  const std::vector<std::string> steps = {"train.steps=4", "evaluation.every=2", "checkpoint.every=2"};
  const TrainedRun cpu = train(directory, "cpu", "cpu", steps);
  emulation::set_seed(emulation::seeds()[0]);
  const TrainedRun cuda = train(directory, "cuda", "cuda:0", steps);
  ASSERT_EQ(cpu.curve.loss.size(), 4u);
  ASSERT_EQ(cuda.curve.loss.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(cuda.curve.loss[i], cpu.curve.loss[i], 1e-4 * cpu.curve.loss[i]) << "step " << i;
    EXPECT_NEAR(cuda.curve.grad_norm[i], cpu.curve.grad_norm[i], 1e-3 * cpu.curve.grad_norm[i]) << "step " << i;
  }
}

TEST(EmulatedTraining, EveryScheduleGivesTheSameBytes) {
  const TemporaryDirectory directory;
  write_tiny_inputs(directory, 0.1);
  for (const char* dtype : {"f32", "bf16"}) {
    TrainedRun before;
    for (const uint64_t seed : emulation::seeds()) {
      emulation::set_seed(seed);
      const TrainedRun run = train(directory, concat(dtype, seed), "cuda:0",
                                   {"train.steps=2", "schedule.warmup_steps=1", "evaluation.every=0",
                                    "checkpoint.every=0", concat("train.dtype=", dtype)});
      if (before.weights.empty()) before = run;
      EXPECT_EQ(run.curve.loss, before.curve.loss) << dtype << " ONDOL_EMULATION_SEED=" << seed;
      EXPECT_EQ(run.weights == before.weights, true) << dtype << " ONDOL_EMULATION_SEED=" << seed;
    }
  }
}

}  // namespace
}  // namespace ondol::testing
