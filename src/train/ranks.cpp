#include "train/ranks.h"

#include <algorithm>

#include <ondol/base/error.h>

namespace ondol {

MicroBatchShare share_of_micro_batches(int64_t micro_batches, int rank, int ranks) {
  MicroBatchShare share;
  while (share.size * ranks < micro_batches) share.size *= 2;
  share.first = std::min(rank * share.size, micro_batches);
  share.count = std::min(share.first + share.size, micro_batches) - share.first;
  share.contributors = static_cast<int>((micro_batches + share.size - 1) / share.size);
  return share;
}

MicroBatchShare dealt_micro_batches(int64_t micro_batches, int rank, int ranks) {
  MicroBatchShare share{.first = rank, .stride = ranks, .size = (micro_batches + ranks - 1) / ranks};
  share.count = std::max<int64_t>(0, (micro_batches - rank + ranks - 1) / ranks);
  share.contributors = contributors_in_round(micro_batches, 0, ranks);
  return share;
}

int contributors_in_round(int64_t micro_batches, int64_t round, int ranks) {
  return static_cast<int>(std::clamp<int64_t>(micro_batches - round * ranks, 0, ranks));
}

namespace {

Tensor bytes_of(const std::string& text) {
  return Tensor::from_vector(std::vector<uint8_t>(text.begin(), text.end()), {static_cast<int64_t>(text.size())});
}

std::string text_of(const Tensor& bytes) {
  const std::vector<uint8_t> values = bytes.to_vector<uint8_t>();
  return {values.begin(), values.end()};
}

}  // namespace

std::vector<std::string> Ranks::gather(const std::string& text) const {
  if (communicator_ == nullptr) return {text};
  const Device device = communicator_->options().device;
  Tensor lengths = Tensor::empty({size()}, DType::i64, device);
  const Tensor own = Tensor::from_vector(std::vector<int64_t>{static_cast<int64_t>(text.size())}, {1}).to(device);
  communicator_->all_gather(lengths, own).synchronize();
  const std::vector<int64_t> counts = lengths.to_vector<int64_t>();
  const int64_t longest = *std::max_element(counts.begin(), counts.end());
  std::string padded = text;
  padded.resize(static_cast<size_t>(longest));
  const Tensor all = Tensor::empty({size() * longest}, DType::u8, device);
  communicator_->all_gather(all, bytes_of(padded).to(device)).synchronize();
  const std::string joined = text_of(all);
  std::vector<std::string> texts;
  for (size_t i = 0; i < counts.size(); ++i) {
    texts.push_back(joined.substr(i * static_cast<size_t>(longest), static_cast<size_t>(counts[i])));
  }
  return texts;
}

std::string Ranks::from_first(const std::function<std::string()>& compute) const {
  if (communicator_ == nullptr) return compute();
  return gather(first() ? compute() : "").front();
}

void Ranks::one_by_one(const std::function<void()>& work) const {
  if (first()) work();
  meet();
  if (!first()) work();
}

void Ranks::meet() const {
  if (communicator_ != nullptr) communicator_->barrier().synchronize();
}

void Ranks::check_same(const std::string& what, const std::string& value) const {
  const std::vector<std::string> values = gather(value);
  std::string others;
  for (size_t i = 1; i < values.size(); ++i) {
    if (values[i] != values[0]) others += concat(others.empty() ? "" : ", ", i);
  }
  if (others.empty()) return;
  throw UsageError(
      concat("the processes of the run do not agree: ", what, " of rank ", others, " is not that of rank 0"),
      "start all of them with the same command, files and version of the program");
}

void Ranks::fail(const std::string& reason) const {
  if (communicator_ != nullptr) communicator_->abort(reason);
}

}  // namespace ondol
