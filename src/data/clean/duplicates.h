// Finds documents that equal or resemble an earlier one. Documents are numbered by their position in the stream; what
// memory does not hold lies in temporary files.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <ondol/data/clean.h>

namespace ondol::clean {

struct Duplicates {
  std::vector<bool> drop;                               // by document
  std::vector<std::pair<uint32_t, uint32_t>> examples;  // (dropped, what is kept instead), the first few
};

class DuplicateFinder {
 public:
  virtual ~DuplicateFinder() = default;
  /// What is needed of a text, as words; empty: it has no duplicates. May be called from several threads at once.
  virtual void describe(std::string_view text, std::vector<uint32_t>& description) const = 0;
  /// In order of documents, each at most once.
  virtual void add(uint32_t document, uint64_t bytes, const std::vector<uint32_t>& description) = 0;
  /// Of `documents` documents in all. The finder is used up.
  virtual Duplicates finish(uint32_t documents, size_t max_examples) = 0;
};

/// `memory_bytes` bound what is kept in memory for sorting.
std::unique_ptr<DuplicateFinder> make_duplicate_finder(const ExactDedupOptions& options, uint64_t memory_bytes,
                                                       const std::string& temporary_directory);
std::unique_ptr<DuplicateFinder> make_duplicate_finder(const MinHashDedupOptions& options, uint64_t memory_bytes,
                                                       const std::string& temporary_directory);

}  // namespace ondol::clean
