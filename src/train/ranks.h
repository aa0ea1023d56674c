// What the processes of a run do together: agree on values, take turns, share the micro-batches of a step.
//
//   Ranks ranks(options.communicator);                         // null: a single process
//   const std::string checkpoint = ranks.from_first([&] { return find_checkpoint(directory); });
//   ranks.one_by_one([&] { open_data(); });                    // the first rank makes the files that the others open
//   ranks.check_same("configuration", config.hash());
//   const MicroBatchShare mine = share_of_micro_batches(8, ranks.rank(), ranks.size());
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include <ondol/distributed/communicator.h>

namespace ondol {

/// The micro-batches of a step that a rank computes: first, first + stride, ..., `count` of them; a whole share has
/// `size`. Of consecutive ones the first `contributors` ranks have some.
struct MicroBatchShare {
  int64_t first = 0, stride = 1, count = 0;
  int64_t size = 1;
  int contributors = 1;

  /// The place in the step of the i-th one.
  int64_t index(int64_t i) const { return first + i * stride; }
};

/// Consecutive ones. Shares are the smallest power of two that suffices for all, so that what a rank adds up is a whole
/// sub-tree of the tree over all micro-batches (train/gradient_sum.h).
MicroBatchShare share_of_micro_batches(int64_t micro_batches, int rank, int ranks);

/// Dealt out one after the other, so that ranks can add up after each of `size` rounds: in round i those of the first
/// contributors_in_round ranks.
MicroBatchShare dealt_micro_batches(int64_t micro_batches, int rank, int ranks);
int contributors_in_round(int64_t micro_batches, int64_t round, int ranks);

class Ranks {
 public:
  /// Null: one process. The communicator must outlive this.
  explicit Ranks(Communicator* communicator = nullptr) : communicator_(communicator) {}

  int rank() const { return communicator_ == nullptr ? 0 : communicator_->rank(); }
  int size() const { return communicator_ == nullptr ? 1 : communicator_->size(); }
  bool first() const { return rank() == 0; }
  /// Null for one process.
  Communicator* communicator() const { return communicator_; }

  /// What the first rank computes, for all. Collective, as everything below.
  std::string from_first(const std::function<std::string()>& compute) const;
  /// The first rank does it before the others do.
  void one_by_one(const std::function<void()>& work) const;
  /// Returns when all have come here.
  void meet() const;
  /// By rank.
  std::vector<std::string> gather(const std::string& text) const;
  /// The plain values of all ranks, in their order; every rank has as many.
  template <class T>
  std::vector<T> gather(const std::vector<T>& values) const {
    static_assert(std::is_trivially_copyable_v<T>);
    std::vector<T> all;
    for (const std::string& bytes :
         gather(std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)))) {
      const size_t before = all.size();
      all.resize(before + bytes.size() / sizeof(T));
      if (!bytes.empty()) std::memcpy(&all[before], bytes.data(), bytes.size());
    }
    return all;
  }
  /// Throws UsageError naming `what` and the ranks whose value is not that of the first one.
  void check_same(const std::string& what, const std::string& value) const;

  /// Not collective: the others hear of an error here as soon as they wait for this rank.
  void fail(const std::string& reason) const;

 private:
  Communicator* communicator_;
};

}  // namespace ondol
