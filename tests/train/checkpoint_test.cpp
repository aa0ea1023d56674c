#include <ondol/train/checkpoint.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>

#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <ondol/base/file.h>
#include <ondol/base/parallel.h>

#include "base/json_reader.h"
#include "support/error_of.h"
#include "support/temporary_directory.h"
#include "train/fault_injection.h"
#include "train/tiny_run.h"

namespace ondol {
namespace {

namespace fs = std::filesystem;

/// A model with an optimizer whose state is not zero.
struct Fixture {
  explicit Fixture(DType dtype = DType::f32, const std::string& optimizer_type = "adamw") {
    testing::write_tiny_inputs(directory);
    model = create_model(directory / "model.json", dtype, {}, 5);
    OptimizerConfig config;
    config.type = optimizer_type;
    config.momentum = optimizer_type == "sgd" ? 0.9 : 0.0;
    optimizer = make_optimizer(config, model->parameters());
    change(1);
  }
  /// Other weights and state for every step.
  void change(int64_t step) {
    model->parameters().enable_gradients();
    model->parameters().flat_gradients().fill(0.25 * static_cast<double>(step));
    optimizer->step({.learning_rate = 1e-2, .update = step});
  }
  std::string write(int64_t step, int64_t keep = 0) {
    change(step);
    TrainerState state;
    state.step = step;
    state.tokens = 100 * step;
    state.data_position = R"({"position":7})";
    return write_checkpoint(directory.path(),
                            {.model = *model, .optimizer = *optimizer, .tokenizer = nullptr, .state = state}, keep);
  }
  std::vector<float> weights() const { return model->parameters().flat_values().to_vector<float>(); }

  testing::TemporaryDirectory directory;
  std::unique_ptr<Model> model;
  std::unique_ptr<Optimizer> optimizer;
};

std::vector<std::string> checkpoints_in(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (name.find("checkpoint-") != std::string::npos) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string find(const std::string& directory, std::string* reasons = nullptr) {
  return find_checkpoint(directory, [&](const std::string& reason) {
    if (reasons != nullptr) *reasons += reason + "\n";
  });
}

class RoundTrip : public ::testing::TestWithParam<std::pair<DType, const char*>> {};
INSTANTIATE_TEST_SUITE_P(Checkpoint, RoundTrip,
                         ::testing::Values(std::pair{DType::f32, "adamw"}, std::pair{DType::bf16, "adamw"},
                                           std::pair{DType::f32, "sgd"}, std::pair{DType::bf16, "sgd"}));

TEST_P(RoundTrip, EverythingComesBack) {
  const auto [dtype, type] = GetParam();
  Fixture saved(dtype, type), loaded(dtype, type);
  const std::string path = saved.write(8);
  verify_checkpoint(path);
  loaded.model = load_model(path, {.device = "cpu", .dtype = dtype});
  OptimizerConfig config;
  config.type = type;
  config.momentum = std::string(type) == "sgd" ? 0.9 : 0.0;
  loaded.optimizer = make_optimizer(config, loaded.model->parameters());
  load_optimizer(path, loaded.model->parameters(), *loaded.optimizer);
  EXPECT_EQ(loaded.weights(), saved.weights());
  EXPECT_EQ(loaded.optimizer->master().to_vector<float>(), saved.optimizer->master().to_vector<float>());
  ASSERT_EQ(loaded.optimizer->state().size(), std::string(type) == "adamw" ? 2u : 1u);
  for (size_t i = 0; i < loaded.optimizer->state().size(); ++i) {
    EXPECT_EQ(loaded.optimizer->state()[i].second.to_vector<float>(),
              saved.optimizer->state()[i].second.to_vector<float>());
  }
  const TrainerState state = read_trainer_state(path);
  EXPECT_EQ(state.step, 8);
  EXPECT_EQ(state.tokens, 800);
  EXPECT_EQ(state.data_position, R"({"position":7})");
  // Master weights are written once: by the model itself when it is f32.
  EXPECT_EQ(SafetensorsFile(path + "/optimizer.safetensors").has("master"), dtype == DType::bf16);
}

TEST(Checkpoint, ParametersOfTheTrainingAloneComeBack) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    testing::TemporaryDirectory directory;
    testing::write_tiny_inputs(directory);
    const ModelExtension extend = [](Model& model) {
      model.parameters().add_extra("objective.projection", {3, 5}, Init::normal(1.0f));
    };
    const auto model = create_model(directory / "model.json", dtype, {}, 5, extend);
    const auto optimizer = make_optimizer({}, model->parameters());
    TrainerState state;
    state.step = 1;
    const std::string written =
        write_checkpoint(directory.path(), {.model = *model, .optimizer = *optimizer, .state = state}, 0);
    const auto values = [](const Model& of) {
      return of.parameters().extra("objective.projection").value().to_vector<float>();
    };
    const auto read = load_model(written, {.dtype = DType::f32, .extend = extend, .seed = 6});
    EXPECT_NE(values(*read), values(*model));
    load_extras(written, read->parameters());
    EXPECT_EQ(values(*read), values(*model));
    EXPECT_EQ(load_model(written)->parameters().count() + 15, read->parameters().count());
  }
}

TEST(Checkpoint, OldestAreRemoved) {
  Fixture fixture;
  for (const int64_t step : {2, 10, 30, 100}) fixture.write(step, 2);
  EXPECT_EQ(checkpoints_in(fixture.directory.path()), (std::vector<std::string>{"checkpoint-100", "checkpoint-30"}));
  EXPECT_EQ(find(fixture.directory.path()), fixture.directory / "checkpoint-100");
}

TEST(Checkpoint, OtherOptimizerIsRefused) {
  Fixture adamw, sgd(DType::f32, "sgd");
  const std::string path = adamw.write(1);
  EXPECT_THROW(load_optimizer(path, sgd.model->parameters(), *sgd.optimizer), UsageError);
}

/// Replaces one byte of a file.
void flip(const std::string& path, uint64_t offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  const char byte = static_cast<char>(file.get() ^ 0x10);
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(byte);
}

TEST(Checkpoint, DamageIsNamedAndPassedOver) {
  const char* const files[] = {"model.safetensors", "optimizer.safetensors", "trainer_state.json", "config.json",
                               "manifest.json"};
  for (const std::string name : files) {
    for (const std::string damage : {"flip", "cut", "missing"}) {
      Fixture fixture;
      const std::string whole = fixture.write(1);
      const std::string path = fixture.write(2) + "/" + name;
      const uint64_t size = fs::file_size(path);
      if (damage == "flip" && name == "manifest.json") continue;  // may hit white space; the next test covers digits
      if (damage == "flip") flip(path, size - 2);
      if (damage == "cut") fs::resize_file(path, size / 2);
      if (damage == "missing") fs::remove(path);
      std::string reasons;
      EXPECT_EQ(find(fixture.directory.path(), &reasons), whole) << name << " " << damage;
      EXPECT_NE(reasons.find(name), std::string::npos) << reasons;
      if (damage == "flip" && name.ends_with(".safetensors")) {
        EXPECT_NE(reasons.find("in tensor \""), std::string::npos) << reasons;
      }
    }
  }
}

TEST(Checkpoint, CountersThatLeaveNoRoomToGoOnAreRefused) {
  testing::TemporaryDirectory directory;
  for (const char* key : {"step", "stage_step", "tokens", "samples"}) {
    Json state = {{"format", 1},      {"step", 1},    {"stage", 0},     {"stage_step", 1}, {"updates", 1},
                  {"tokens", 8},      {"samples", 1}, {"seconds", 1.0}, {"seed", 1},       {"model_fingerprint", ""},
                  {"config_hash", ""}};
    directory.write("trainer_state.json", state.dump());
    EXPECT_EQ(read_trainer_state(directory.path()).tokens, 8);
    state[key] = INT64_MAX;
    directory.write("trainer_state.json", state.dump());
    EXPECT_NE(testing::error_of([&] { read_trainer_state(directory.path()); }).find(key), std::string::npos);
  }
}

TEST(Checkpoint, EveryByteOfTheManifestCounts) {
  Fixture fixture;
  const std::string path = fixture.write(1) + "/manifest.json";
  const std::string text = fixture.directory.read("checkpoint-1/manifest.json");
  int tried = 0;
  const size_t chunk_bytes = text.find("4194304");  // files shorter than a chunk have the same checksums with another
  ASSERT_NE(chunk_bytes, std::string::npos);
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    if (i >= chunk_bytes && i < chunk_bytes + 7) continue;
    ++tried;
    fixture.directory.write("checkpoint-1/manifest.json", text);
    flip(path, i);
    EXPECT_EQ(find(fixture.directory.path()), "") << "byte " << i << " of " << text;
  }
  EXPECT_GT(tried, 300);
}

TEST(Checkpoint, SwappedFilesAreNoticed) {
  Fixture fixture;
  const std::string first = fixture.write(1), second = fixture.write(2);
  fs::copy_file(first + "/model.safetensors", second + "/model.safetensors", fs::copy_options::overwrite_existing);
  EXPECT_EQ(find(fixture.directory.path()), first);
}

class Faults : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Checkpoint, Faults, ::testing::Values(ENOSPC, EIO));

TEST_P(Faults, AFailedWriteLeavesEarlierCheckpointsWhole) {
  Fixture fixture;
  const std::string first = fixture.write(1);
  const std::vector<float> first_weights = load_model(first)->parameters().flat_values().to_vector<float>();
  int failures = 0;
  bool completed = false;
  for (int n = 0; !completed; ++n) {
    ASSERT_LT(n, 500);
    std::string message, hint;
    try {
      const testing::FaultInjection injection(n, GetParam());
      fixture.write(2);
      completed = testing::fault().calls <= n;  // no call was left to fail
    } catch (const Error& error) {
      message = error.what();
      hint = error.hint();
    }
    if (message.empty() && !completed) continue;  // a failure that did not matter: the names were durable already
    if (completed) break;
    ++failures;
    EXPECT_NE(message.find("checkpoint of step 2 was not written: "), std::string::npos) << message;
    EXPECT_NE(message.find(std::strerror(GetParam())), std::string::npos) << message;
    EXPECT_FALSE(hint.empty());
    const std::string found = find(fixture.directory.path());
    if (found != first) {
      // The rename was done and only the sync of the directory failed: it is whole, though not known to be durable.
      EXPECT_EQ(found, fixture.directory / "checkpoint-2");
      verify_checkpoint(found);
      fs::remove_all(found);
    }
    verify_checkpoint(first);
    EXPECT_EQ(load_model(first)->parameters().flat_values().to_vector<float>(), first_weights);
    for (const std::string& name : checkpoints_in(fixture.directory.path())) {
      EXPECT_FALSE(name.starts_with(".")) << name << " was left behind by call " << n;
    }
  }
  EXPECT_GE(failures, 25);
  EXPECT_EQ(find(fixture.directory.path()), fixture.directory / "checkpoint-2");
}

/// In a child process: dies at the N-th call of the file system while it writes a checkpoint. False when it got
/// through.
bool killed_at_call(Fixture& fixture, int n) {
  const pid_t child = fork();
  if (child == 0) {
    set_num_threads(1);  // the threads of the pool were left behind by fork
    static int left = 0;
    left = n;
    static const FileOperations real = file_operations();
    static const auto strike = [] {
      if (left-- == 0) raise(SIGKILL);
    };
    FileOperations& table = file_operations();
    table.open = [](const char* path, int flags, mode_t mode) { return strike(), real.open(path, flags, mode); };
    table.write = [](int fd, const void* data, size_t size) { return strike(), real.write(fd, data, size); };
    table.pwrite = [](int fd, const void* data, size_t size, off_t offset) {
      return strike(), real.pwrite(fd, data, size, offset);
    };
    table.fsync = [](int fd) { return strike(), real.fsync(fd); };
    table.close = [](int fd) { return strike(), real.close(fd); };
    table.rename = [](const char* from, const char* to) { return strike(), real.rename(from, to); };
    table.unlink = [](const char* path) { return strike(), real.unlink(path); };
    table.mkdir = [](const char* path, mode_t mode) { return strike(), real.mkdir(path, mode); };
    fixture.write(2, 1);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0) << status;
  return WIFSIGNALED(status);
}

TEST(Checkpoint, KilledAtEveryCallOldOrNewIsWhole) {
  Fixture fixture;
  fixture.write(1);
  const std::vector<float> old_weights = fixture.weights();
  fixture.change(2);  // what the child writes; write() in the child changes once more
  int killed = 0;
  for (; killed < 500; ++killed) {
    const bool died = killed_at_call(fixture, killed);
    const std::string found = find(fixture.directory.path());
    ASSERT_NE(found, "") << "call " << killed;
    const std::vector<float> weights = load_model(found)->parameters().flat_values().to_vector<float>();
    EXPECT_EQ(weights == old_weights, found.ends_with("checkpoint-1")) << "call " << killed;
    if (!died) break;
    clean_run_directory(fixture.directory.path(), false);
    if (found.ends_with("checkpoint-2")) break;  // the new one was complete: later calls only remove the old one
  }
  EXPECT_GT(killed, 25);
  EXPECT_EQ(find(fixture.directory.path()), fixture.directory / "checkpoint-2");
}

TEST(Checkpoint, LeftoversOfKilledRunsGoAway) {
  Fixture fixture;
  const std::string whole = fixture.write(3);
  fs::create_directory(fixture.directory / ".checkpoint-4.tmp-123");
  fixture.directory.write(".checkpoint-4.tmp-123/model.safetensors", "half");
  fs::create_directory(fixture.directory / ".final.tmp-123");
  fixture.directory.write(".metrics.jsonl.tmp-5-0", "x");
  clean_run_directory(fixture.directory.path(), false);
  EXPECT_FALSE(fs::exists(fixture.directory / ".checkpoint-4.tmp-123"));
  EXPECT_FALSE(fs::exists(fixture.directory / ".final.tmp-123"));
  EXPECT_FALSE(fs::exists(fixture.directory / ".metrics.jsonl.tmp-5-0"));
  EXPECT_TRUE(fs::exists(whole));
  EXPECT_TRUE(fs::exists(fixture.directory / "model.json"));
  clean_run_directory(fixture.directory.path(), true);
  EXPECT_FALSE(fs::exists(whole));
  EXPECT_TRUE(fs::exists(fixture.directory / "model.json"));
}

}  // namespace
}  // namespace ondol
