// Whole training steps on cuda:0, which in this program is the emulated backend: captured and replayed, against steps
// that are run kernel by kernel, and against the CPU.
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include <ondol/tensor/allocator.h>
#include <ondol/train/objective.h>

#include "support/cuda_emulation/emulator.h"
#include "support/temporary_directory.h"
#include "train/training_step.h"

namespace ondol {
namespace {

constexpr Device kCuda{DeviceType::cuda, 0};

const char* const kLlama = R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 40,
  "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
  "num_key_value_heads": 1, "max_position_embeddings": 16, "rms_norm_eps": 1e-5, "attention_dropout": 0.25,
  "tie_word_embeddings": true})";

/// A small model with its optimizer, and the steps of one run.
struct TrainingRun {
  TrainingRun(Device device, DType dtype, TrainingStepSettings run_settings = {.seed = 3, .max_grad_norm = 0.5})
      : settings(run_settings) {
    const testing::TemporaryDirectory directory;
    model = create_model(directory.write("config.json", kLlama), dtype, device, 11);
    optimizer = make_optimizer({.type = "adamw", .weight_decay = 0.1}, model->parameters());
    step = std::make_unique<TrainingStep>(*model, *optimizer, settings);
  }

  /// Some labels are left out, another number of them in each step.
  Batch batch(int64_t number, int64_t length) const {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < 4 * length; ++i)
      ids.push_back(static_cast<int32_t>((i * i + 7 * i * number + number) % 40));
    Batch out;
    out.input_ids = Tensor::from_vector(ids, {4, length});
    for (int64_t i = 0; i < number % 4; ++i) ids[static_cast<size_t>(5 * i)] = kIgnoreIndex;
    out.labels = Tensor::from_vector(ids, {4, length});
    out.labels_shifted = false;
    return objective->prepare(std::move(out), {.model = *model});
  }

  StepArguments arguments(int64_t number) const {
    return {.micro_batch_size = 2, .step = number, .learning_rate = 1e-2 / static_cast<double>(number)};
  }

  GradientResult run(int64_t number, int64_t length = 6) {
    step->start(*objective, batch(number, length), arguments(number));
    return step->wait();
  }

  /// The same by a TrainingStep that has captured nothing yet.
  GradientResult run_eagerly(int64_t number, int64_t length = 6) {
    settings.updates = number - 1;
    step = std::make_unique<TrainingStep>(*model, *optimizer, settings);
    const GradientResult result = run(number, length);
    EXPECT_EQ(step->replays(), 0u);
    return result;
  }

  std::vector<float> weights() const { return optimizer->master().to_vector<float>(); }

  TrainingStepSettings settings;
  std::unique_ptr<Model> model;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<Objective> objective = make_objective(R"({"type": "clm"})");
  std::unique_ptr<TrainingStep> step;
};

class CapturedStep : public ::testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Dtypes, CapturedStep, ::testing::Values(DType::f32, DType::bf16));

TEST_P(CapturedStep, AReplayedStepIsAnEagerStepToTheLastByte) {
  emulation::set_seed(1);
  TrainingRun captured(kCuda, GetParam()), eager(kCuda, GetParam());
  for (int64_t number = 1; number <= 7; ++number) {
    const GradientResult a = captured.run(number), b = eager.run_eagerly(number);
    EXPECT_EQ(a.loss, b.loss) << number;
    EXPECT_EQ(a.grad_norm, b.grad_norm) << number;
    EXPECT_EQ(captured.weights(), eager.weights()) << number;
  }
  EXPECT_GE(captured.step->replays(), 4u);
}

TEST_P(CapturedStep, FollowsTheCpu) {
  TrainingRun cuda(kCuda, GetParam()), cpu({}, GetParam());
  const double tolerance = GetParam() == DType::f32 ? 1e-5 : 2e-2;
  for (int64_t number = 1; number <= 5; ++number) {
    const GradientResult a = cuda.run(number), b = cpu.run(number);
    EXPECT_NEAR(a.loss, b.loss, tolerance * b.loss) << number;
    EXPECT_NEAR(a.grad_norm, b.grad_norm, 4 * tolerance * b.grad_norm) << number;
  }
  EXPECT_GE(cuda.step->replays(), 2u);
  EXPECT_EQ(cpu.step->replays(), 0u);
}

TEST(TrainingStepOnCuda, OtherShapesAreCapturedAnew) {
  TrainingRun captured(kCuda, DType::f32), eager(kCuda, DType::f32);
  int64_t number = 0;
  for (const int64_t length : {6, 6, 6, 6, 9, 9, 9, 9, 6, 6, 6, 6}) {
    ++number;
    EXPECT_EQ(captured.run(number, length).loss, eager.run_eagerly(number, length).loss) << number;
  }
  EXPECT_EQ(captured.weights(), eager.weights());
  EXPECT_GE(captured.step->replays(), 3u);
}

/// Memory that a captured step writes to is nobody else's: what is computed in between stays, and does not disturb.
TEST(TrainingStepOnCuda, WorkBetweenReplaysKeepsItsMemory) {
  TrainingRun captured(kCuda, DType::f32), eager(kCuda, DType::f32);
  std::vector<Tensor> between;
  std::vector<float> expected;
  for (int64_t number = 1; number <= 6; ++number) {
    captured.run(number);
    eager.run_eagerly(number);
    for (const int64_t size : {7, 16, 64, 96, 256, 1000}) {
      between.push_back(Tensor::full({size}, static_cast<double>(number * size), DType::f32, kCuda));
      expected.push_back(static_cast<float>(number * size));
    }
    const Batch batch = captured.batch(number, 6);
    EXPECT_EQ(mean_losses(*captured.model, *captured.objective, batch, 4),
              mean_losses(*eager.model, *eager.objective, batch, 4));
  }
  for (size_t i = 0; i < between.size(); ++i) {
    EXPECT_EQ(between[i].to_vector<float>(), std::vector<float>(static_cast<size_t>(between[i].numel()), expected[i]));
  }
  EXPECT_EQ(captured.weights(), eager.weights());
}

/// The host may be a step ahead: the results come in order, and are those of one step at a time.
TEST(TrainingStepOnCuda, TheHostMayRunAhead) {
  TrainingRun ahead(kCuda, DType::f32), one_by_one(kCuda, DType::f32);
  std::vector<double> losses, expected;
  for (int64_t number = 1; number <= 6; ++number) {
    ahead.step->start(*ahead.objective, ahead.batch(number, 6), ahead.arguments(number));
    if (number > 1) losses.push_back(ahead.step->wait().loss);
    expected.push_back(one_by_one.run(number).loss);
  }
  losses.push_back(ahead.step->wait().loss);
  EXPECT_EQ(losses, expected);
  EXPECT_THROW(ahead.step->wait(), Error);
}

TEST(TrainingStepOnCuda, NothingChangesAfterAStepThatIsNotFinite) {
  for (const bool stops : {false, true}) {
    TrainingRun run(kCuda, DType::f32, {.seed = 3, .max_grad_norm = 0.5, .stop_at_non_finite = stops});
    for (int64_t number = 1; number <= 4; ++number) run.run(number);
    EXPECT_GE(run.step->replays(), 1u);
    const std::vector<float> before = run.weights();
    const Variable norm = run.model->parameters().entries().back().variable;
    const std::vector<float> kept = norm.value().to_vector<float>();
    norm.value().fill(std::numeric_limits<double>::infinity());
    EXPECT_FALSE(run.run(5).finite());
    norm.value().copy_from(Tensor::from_vector(kept, norm.shape()).to(kCuda));
    EXPECT_EQ(run.weights(), before);
    EXPECT_TRUE(run.run(6).finite());
    EXPECT_EQ(run.weights() == before, stops);
  }
}

TEST(TrainingStepOnCuda, StepsAskForNoMoreMemory) {
  TrainingRun run(kCuda, DType::bf16);
  for (int64_t number = 1; number <= 3; ++number) run.run(number);
  const uint64_t before = memory_statistics(kCuda).system_allocations;
  for (int64_t number = 4; number <= 8; ++number) run.run(number);
  EXPECT_EQ(memory_statistics(kCuda).system_allocations, before);
}

}  // namespace
}  // namespace ondol
