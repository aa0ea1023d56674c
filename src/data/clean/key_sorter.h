// Sorts more (key, document) pairs than memory holds, so that documents with equal keys come to stand together.
//
//   KeySorter<2> sorter(memory_bytes, directory);
//   sorter.add({key0, key1}, document);
//   sorter.visit([&](uint32_t document, bool same_key) { … });  // in order of key, then document
//
// What does not fit is sorted and written to a temporary file; visit() merges. The order does not depend on the memory
// nor on the number of threads.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <queue>
#include <string>
#include <vector>

#include <ondol/base/parallel.h>

#include "data/clean/temporary_file.h"

namespace ondol::clean {

/// A key of `Words` 32-bit words.
template <size_t Words>
class KeySorter {
 public:
  using Key = std::array<uint32_t, Words>;

  KeySorter(uint64_t memory_bytes, std::string directory)
      : capacity_(std::max<uint64_t>(memory_bytes / sizeof(Record), kMinRecords)), directory_(std::move(directory)) {}

  void add(const Key& key, uint32_t document) {
    if (records_.size() == capacity_) spill();
    // Growing by doubling would need half as much memory again when it moves.
    if (records_.size() == records_.capacity()) {
      records_.reserve(std::min<size_t>(capacity_, std::max<size_t>(kMinRecords, records_.size() * 3 / 2)));
    }
    records_.push_back({key, document});
  }

  /// Calls visit(document, whether the key is that of the call before). The sorter is empty afterwards.
  template <class Visit>
  void visit(const Visit& visit) {
    const std::vector<size_t> cuts = sort_parts();
    std::vector<Run> runs;
    for (size_t i = 0; i + 1 < cuts.size(); ++i) {
      if (cuts[i] < cuts[i + 1]) runs.push_back({records_.data() + cuts[i], records_.data() + cuts[i + 1], {}, 0, 0});
    }
    const size_t buffered =
        std::clamp<size_t>(capacity_ / std::max<size_t>(spilled_.size(), 1), kMinBuffered, kMaxBuffered);
    for (const auto& [begin, end] : spilled_) {
      runs.push_back({nullptr, nullptr, std::vector<Record>(buffered), begin, end});
      refill(runs.back());
    }
    const auto later = [&](size_t a, size_t b) { return *runs[b].next < *runs[a].next; };
    std::priority_queue<size_t, std::vector<size_t>, decltype(later)> queue(later);
    for (size_t i = 0; i < runs.size(); ++i) queue.push(i);
    Key previous{};
    bool any = false;
    while (!queue.empty()) {
      const size_t i = queue.top();
      queue.pop();
      Run& run = runs[i];
      const Record record = *run.next++;
      visit(record.document, any && record.key == previous);
      previous = record.key;
      any = true;
      if (run.next != run.end || refill(run)) queue.push(i);
    }
    records_ = {};
    spilled_.clear();
    file_.reset();
  }

 private:
  static constexpr uint64_t kMinRecords = 4096;
  static constexpr size_t kMinBuffered = 256, kMaxBuffered = size_t{1} << 16;

  struct Record {
    Key key;
    uint32_t document;
    auto operator<=>(const Record&) const = default;
  };
  struct Run {
    const Record* next;
    const Record* end;
    std::vector<Record> buffer;     // of a run in the file
    uint64_t file_begin, file_end;  // bytes that are not in the buffer yet
  };

  /// Sorts parts of the memory side by side; returns where they begin, and the end.
  std::vector<size_t> sort_parts() {
    const auto parts = static_cast<size_t>(std::max(1, num_threads()));
    std::vector<size_t> cuts;
    for (size_t i = 0; i <= parts; ++i) cuts.push_back(records_.size() * i / parts);
    parallel_for(static_cast<int64_t>(parts), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        std::sort(records_.begin() + static_cast<std::ptrdiff_t>(cuts[static_cast<size_t>(i)]),
                  records_.begin() + static_cast<std::ptrdiff_t>(cuts[static_cast<size_t>(i) + 1]));
      }
    });
    return cuts;
  }

  void spill() {
    if (file_ == nullptr) file_ = std::make_unique<TemporaryFile>(directory_);
    const std::vector<size_t> cuts = sort_parts();
    for (size_t i = 0; i + 1 < cuts.size(); ++i) {
      if (cuts[i] == cuts[i + 1]) continue;
      const uint64_t begin = file_->size();
      file_->append(records_.data() + cuts[i], (cuts[i + 1] - cuts[i]) * sizeof(Record));
      spilled_.emplace_back(begin, file_->size());
    }
    records_.clear();
  }

  bool refill(Run& run) {
    if (run.file_begin == run.file_end) return false;
    const uint64_t bytes = std::min<uint64_t>(run.buffer.size() * sizeof(Record), run.file_end - run.file_begin);
    file_->read_at(run.file_begin, run.buffer.data(), bytes);
    run.file_begin += bytes;
    run.next = run.buffer.data();
    run.end = run.next + bytes / sizeof(Record);
    return true;
  }

  uint64_t capacity_;
  std::string directory_;
  std::vector<Record> records_;
  std::vector<std::pair<uint64_t, uint64_t>> spilled_;  // sorted runs in the file
  std::unique_ptr<TemporaryFile> file_;
};

}  // namespace ondol::clean
