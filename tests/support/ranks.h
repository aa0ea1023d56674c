// Several ranks as processes of one test.
//
//   const std::vector<std::string> errors = run_ranks(4, [](const RankInfo& info, std::shared_ptr<Rendezvous> meeting)
//   {
//     auto world = make_communicator(info, meeting);
//     ONDOL_CHECK(...);
//   });
//   EXPECT_EQ(errors, std::vector<std::string>(4));
//
// Each rank is forked; its error is what its body threw ("" for none, "signal 9" for one that was killed). Whatever
// still runs after the time limit is killed and says so.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ondol/distributed/rank_info.h>
#include <ondol/distributed/rendezvous.h>

namespace ondol::testing {

/// Values are files of a directory, which processes share.
class DirectoryRendezvous final : public Rendezvous {
 public:
  explicit DirectoryRendezvous(std::string directory) : directory_(std::move(directory)) {}
  void set(const std::string& key, const std::string& value) override;
  std::string get(const std::string& key, std::chrono::milliseconds timeout) override;

 private:
  std::string path_of(const std::string& key) const;
  std::string directory_;
};

using RankBody = std::function<void(const RankInfo& info, std::shared_ptr<Rendezvous> meeting)>;

struct RankRun {
  std::vector<std::string> errors;  // by rank
  std::vector<double> seconds;      // until it ended
};

/// `meanwhile` is called in the test's own process with the process ids of the ranks.
RankRun run_ranks_with(int size, const RankBody& body, const std::function<void(const std::vector<int>&)>& meanwhile,
                       std::chrono::seconds limit = std::chrono::seconds(60));

std::vector<std::string> run_ranks(int size, const RankBody& body);

}  // namespace ondol::testing
