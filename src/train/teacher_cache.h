// What is kept of a teacher's predictions, in a file that grows: for each sample the most likely tokens of each target.
//
//   TeacherCache cache({.path = "runs/teacher.cache", .top_k = 64, ...});
//   TeacherPredictions found;
//   if (!cache.find(key, found)) cache.append(key, compute());
//
// Samples are known by a hash of their content, so that a sample that comes again (in another epoch, order or run) is
// found. Of several processes one writes the file; the others, which append the same predictions in the same order,
// read it. Format (little-endian): "ONDOLTC1"; u32 length of a JSON object; that object, which says what the
// predictions depend on (teacher, temperature, top_k, vocab_size); then records: u64 key, u32 targets n, u32 CRC-32 of
// what follows: n top_k i32 token ids, most likely first, n top_k f32 probabilities at the temperature, n f32 of all
// other tokens together. Records are appended whole; one that a killed process left unfinished is cut off when the file
// is opened.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace ondol {

struct TeacherPredictions {
  std::vector<int32_t> tokens;       // (targets, top_k)
  std::vector<float> probabilities;  // (targets, top_k)
  std::vector<float> rest;           // (targets)
};

/// As they stand in a record.
std::string bytes_of(const TeacherPredictions& predictions);
/// Of so many targets, from the front of `bytes`. Throws Error when those do not suffice.
TeacherPredictions take_predictions(std::string_view& bytes, uint32_t targets, int64_t top_k);

struct TeacherCacheSettings {
  std::string path;
  int64_t top_k = 0;  // tokens that are kept; at most the vocabulary
  double temperature = 1.0;
  int64_t vocab_size = 0;
  std::string teacher;  // a fingerprint of its configuration and weights
  bool writes = true;   // false: another process writes the file, which must be there
};

class TeacherCache {
 public:
  /// Opens the file or makes it. Throws UsageError when it holds predictions of another kind, Error when it is damaged.
  explicit TeacherCache(TeacherCacheSettings settings);
  ~TeacherCache();
  TeacherCache(const TeacherCache&) = delete;
  TeacherCache& operator=(const TeacherCache&) = delete;

  int64_t top_k() const { return settings_.top_k; }
  int64_t size() const { return static_cast<int64_t>(records_.size()); }
  /// Throws Error when the record is damaged.
  bool find(uint64_t key, TeacherPredictions& found) const;
  /// What was appended can be found once the process that writes has done so as well.
  void append(uint64_t key, const TeacherPredictions& predictions);

 private:
  struct Record {
    uint64_t offset;  // of what follows the record's head
    uint32_t targets, checksum;
  };
  uint64_t payload_bytes(uint32_t targets) const;
  void read(uint64_t offset, void* target, size_t bytes) const;
  void scan(uint64_t begin, uint64_t end);

  TeacherCacheSettings settings_;
  int fd_ = -1;
  std::unordered_map<uint64_t, Record> records_;
  uint64_t end_ = 0;
};

}  // namespace ondol
