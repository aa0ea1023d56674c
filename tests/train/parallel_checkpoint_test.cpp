// Checkpoints that several ranks write together: the bytes of one process, and what happens when a rank fails at it.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>

#include <gtest/gtest.h>

#include <ondol/base/parallel.h>
#include <ondol/train/checkpoint.h>
#include <ondol/train/trainer.h>

#include "support/ranks.h"
#include "support/temporary_directory.h"
#include "train/checkpoint_writer.h"
#include "train/fault_injection.h"
#include "train/run_watch.h"
#include "train/tiny_run.h"

namespace ondol {
namespace {

namespace fs = std::filesystem;
using testing::run_ranks;
using testing::TemporaryDirectory;
using testing::tiny_config;

/// Its optimizer state is large enough to be cut between ranks and across a chunk of checksums.
void write_inputs(const TemporaryDirectory& directory) {
  testing::write_tiny_inputs(directory);
  directory.write("model.json", R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 64,
      "n_positions": 32, "n_embd": 192, "n_layer": 2, "n_head": 2, "activation_function": "gelu_new",
      "layer_norm_epsilon": 1e-5, "initializer_range": 0.1, "resid_pdrop": 0.1, "embd_pdrop": 0.1,
      "attn_pdrop": 0.1})");
}

using MakeObserver = std::function<std::unique_ptr<TrainObserver>(int rank)>;

std::vector<std::string> train_on(int ranks, const TrainConfig& config, const MakeObserver& observe = nullptr) {
  return run_ranks(ranks, [&](const RankInfo& info, const std::shared_ptr<Rendezvous>& meeting) {
    set_num_threads(1);
    const auto world = make_communicator(info, meeting);
    const auto observer = observe ? observe(info.rank) : nullptr;
    Trainer(config, {.device = "cpu", .communicator = world.get(), .observer = observer.get()}).run();
  });
}

class ParallelCheckpoint : public ::testing::Test {
 protected:
  void SetUp() override { write_inputs(directory); }
  /// The same files with the same bytes, but for what tells the time.
  void expect_same_directory(const std::string& a, const std::string& b) const {
    std::vector<std::string> names[2];
    for (const int i : {0, 1}) {
      for (const auto& entry : fs::recursive_directory_iterator(directory / (i == 0 ? a : b))) {
        if (entry.is_regular_file()) names[i].push_back(fs::relative(entry.path(), directory / (i == 0 ? a : b)));
      }
      std::sort(names[i].begin(), names[i].end());
    }
    EXPECT_EQ(names[0], names[1]) << b;
    ASSERT_FALSE(names[0].empty());
    for (const std::string& name : names[0]) {
      if (name == "trainer_state.json" || name == "manifest.json") continue;
      EXPECT_TRUE(directory.read(a + "/" + name) == directory.read(b + "/" + name)) << b << "/" << name;
    }
  }
  TemporaryDirectory directory;
};

TEST_F(ParallelCheckpoint, HasTheBytesOfOneProcess) {
  const std::vector<std::string> kinds[] = {{"train.dtype=bf16", "evaluation.keep_best=true"},
                                            {"optimizer.ema_decay=0.5", "parallel.zero_stage=2"}};
  for (int kind = 0; kind < 2; ++kind) {
    const auto config = [&](const std::string& run, const char* background) {
      std::vector<std::string> overrides = kinds[kind];
      overrides.push_back(concat("checkpoint.background=", background));
      return tiny_config(directory, run, overrides);
    };
    const std::string one = concat("one-", kind);
    ASSERT_EQ(train_on(1, config(one, "false")), std::vector<std::string>(1));
    int compared = 0;
    for (const char* background : {"true", "false"}) {
      for (const int ranks : {1, 2, 4}) {
        const std::string run = concat("on-", ranks, "-", background, "-", kind);
        ASSERT_EQ(train_on(ranks, config(run, background)), std::vector<std::string>(static_cast<size_t>(ranks)));
        for (const auto& entry : fs::directory_iterator(directory / one)) {
          const std::string name = entry.path().filename().string();
          EXPECT_TRUE(!name.starts_with(".") || name == ".lock") << name;
          EXPECT_TRUE(fs::exists(directory / (run + "/" + name)) || name.starts_with("events.")) << run << "/" << name;
          if (!entry.is_directory()) continue;
          expect_same_directory(one + "/" + name, run + "/" + name);
          ++compared;
        }
        for (const int step : {4, 8, 12}) verify_checkpoint(directory / concat(run, "/checkpoint-", step));
      }
    }
    EXPECT_GE(compared, 6 * 4);
  }
}

struct Watch : TrainObserver {
  explicit Watch(std::function<void(int64_t)> at_step) : body(std::move(at_step)) {}
  void on_step(const StepMetrics& metrics) override { body(metrics.step); }
  std::function<void(int64_t)> body;
};

class FailingRank : public ParallelCheckpoint, public ::testing::WithParamInterface<std::pair<int, bool>> {
 protected:
  int failing() const { return GetParam().first; }
  TrainConfig config(const std::string& run) const {
    return tiny_config(directory, run,
                       {"logging.every=100", "logging.tensorboard=false", "evaluation.every=0",
                        concat("checkpoint.background=", GetParam().second ? "true" : "false")});
  }
  /// A run that has the checkpoint of step 4.
  void SetUp() override {
    ParallelCheckpoint::SetUp();
    testing::RunWatch watch(4);
    Trainer(config("start"), {.device = "cpu", .stop = &watch.stop, .observer = &watch}).run();
    ASSERT_EQ(train_on(1, config("whole")), std::vector<std::string>(1));
  }
  std::string start_run(int number) const {
    const std::string run = concat("run-", number);
    fs::copy(directory / "start", directory / run, fs::copy_options::recursive);
    return run;
  }
  /// After a failure in the checkpoint of step 8: the one of step 4 is whole, and the run goes on from what is there.
  void expect_intact(const std::string& run, const std::string& why) {
    const std::string found = find_checkpoint(directory / run, [](const std::string&) {});
    EXPECT_TRUE(found.ends_with("checkpoint-4") || found.ends_with("checkpoint-8")) << why << ": " << found;
    verify_checkpoint(directory / (run + "/checkpoint-4"));
    const int others = failing() % 2 == 0 ? 1 : 2;
    ASSERT_EQ(train_on(others, config(run)), std::vector<std::string>(static_cast<size_t>(others))) << why;
    testing::expect_same_files(directory, "whole", run,
                               {"final/model.safetensors", "checkpoint-12/optimizer.safetensors"});
  }
};

INSTANTIATE_TEST_SUITE_P(Ranks, FailingRank,
                         ::testing::Values(std::pair{0, true}, std::pair{2, true}, std::pair{0, false},
                                           std::pair{1, false}),
                         [](const auto& tested) {
                           return concat("Rank", tested.param.first, tested.param.second ? "Background" : "Foreground");
                         });

TEST_P(FailingRank, ErrorsOfTheFileSystemNameRankAndFileAndLeaveEarlierCheckpoints) {
  int failures = 0, number = 0;  // the first call of rank 0 syncs the metrics
  for (const int error : {ENOSPC, EIO}) {
    for (int call = error == ENOSPC ? 1 : 2; call < 40; call += 2 + call / 2) {
      const std::string run = start_run(number++);
      const auto errors = train_on(3, config(run), [&](int rank) {
        auto injection = std::make_shared<std::unique_ptr<testing::FaultInjection>>();
        return std::make_unique<Watch>([=, this](int64_t step) {
          if (rank != failing()) return;
          if (step == 7) *injection = std::make_unique<testing::FaultInjection>(call, error);
          if (step == 12) injection->reset();  // the last checkpoint and the model are written as usual
        });
      });
      const std::string& message = errors[static_cast<size_t>(failing())];
      const std::string why = concat("call ", call, ": ", message);
      if (message.empty()) {  // it did not come to this call, or it did not matter
        testing::expect_same_files(directory, "whole", run, {"final/model.safetensors"});
      } else {
        ++failures;
        EXPECT_NE(message.find("checkpoint of step 8 was not written: "), std::string::npos) << why;
        EXPECT_NE(message.find(std::strerror(error)), std::string::npos) << why;
        EXPECT_NE(message.find(directory / run), std::string::npos) << why;
        EXPECT_EQ(message.find('\n'), std::string::npos) << why;
        if (failing() > 0) {
          EXPECT_NE(message.find(concat("rank ", failing(), ": ")), std::string::npos) << why;
        }
        for (const std::string& other : errors) {
          EXPECT_NE(other.find("checkpoint of step 8 was not written: "), std::string::npos) << why << " / " << other;
        }
        expect_intact(run, why);
      }
      fs::remove_all(directory / run);
    }
  }
  EXPECT_GE(failures, failing() == 0 ? 8 : 4);
}

/// From then on the process dies at the N-th call that writes.
void die_at(int call) {
  static int left = 0;
  left = call;
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
}

TEST_P(FailingRank, OneThatIsKilledWhileSavingLeavesOldOrNew) {
  int killed = 0, number = 0;
  for (int call = 0; call < 60; call += 1 + call / 2) {
    const std::string run = start_run(number++);
    const auto errors = train_on(3, config(run), [&](int rank) {
      return std::make_unique<Watch>([=, this](int64_t step) {
        if (rank == failing() && step == 7) die_at(call);
      });
    });
    const std::string& message = errors[static_cast<size_t>(failing())];
    if (message.empty()) break;  // it got through all calls
    ++killed;
    EXPECT_EQ(message, "signal 9") << "call " << call;
    for (size_t rank = 0; rank < errors.size(); ++rank) EXPECT_NE(errors[rank], "") << rank;
    const std::string found = find_checkpoint(directory / run, [](const std::string&) {});
    ASSERT_NE(found, "") << "call " << call;
    verify_checkpoint(found);
    ASSERT_EQ(train_on(2, config(run)), std::vector<std::string>(2)) << "call " << call;
    testing::expect_same_files(directory, "whole", run,
                               {"final/model.safetensors", "checkpoint-12/optimizer.safetensors"});
    fs::remove_all(directory / run);
  }
  EXPECT_GE(killed, 4);
}

}  // namespace
}  // namespace ondol
