#include "train/teacher_cache.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include <ondol/base/file.h>

#include "base/json_reader.h"

namespace ondol {

namespace {

constexpr char kMagic[8] = {'O', 'N', 'D', 'O', 'L', 'T', 'C', '1'};
constexpr uint32_t kMostHeaderBytes = 1u << 16;
constexpr uint32_t kMostTargets = 1u << 26;

struct RecordHead {
  uint64_t key;
  uint32_t targets, checksum;
};
static_assert(sizeof(RecordHead) == 16);

std::string header_of(const TeacherCacheSettings& settings) {
  nlohmann::ordered_json header = {{"format", 1},
                                   {"teacher", settings.teacher},
                                   {"temperature", settings.temperature},
                                   {"top_k", settings.top_k},
                                   {"vocab_size", settings.vocab_size}};
  const std::string text = header.dump();
  const auto length = static_cast<uint32_t>(text.size());
  std::string bytes(kMagic, sizeof(kMagic));
  bytes.append(reinterpret_cast<const char*>(&length), sizeof(length));
  return bytes + text;
}

}  // namespace

std::string bytes_of(const TeacherPredictions& predictions) {
  std::string bytes;
  const auto put = [&bytes](const auto& values) {
    bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0]));
  };
  put(predictions.tokens);
  put(predictions.probabilities);
  put(predictions.rest);
  return bytes;
}

TeacherPredictions take_predictions(std::string_view& bytes, uint32_t targets, int64_t top_k) {
  TeacherPredictions found;
  const size_t count = targets * static_cast<size_t>(top_k);
  found.tokens.resize(count);
  found.probabilities.resize(count);
  found.rest.resize(targets);
  const auto take = [&bytes](auto& values) {
    const size_t size = values.size() * sizeof(values[0]);
    ONDOL_CHECK(bytes.size() >= size, "teacher predictions of a wrong size");
    if (size > 0) std::memcpy(values.data(), bytes.data(), size);
    bytes.remove_prefix(size);
  };
  take(found.tokens);
  take(found.probabilities);
  take(found.rest);
  return found;
}

TeacherCache::TeacherCache(TeacherCacheSettings settings) : settings_(std::move(settings)) {
  const std::string& path = settings_.path;
  const std::filesystem::path directory = std::filesystem::path(path).parent_path();
  if (settings_.writes && !directory.empty()) make_directories(directory.string());
  const int access = settings_.writes ? O_RDWR | O_CREAT | O_APPEND : O_RDONLY;
  fd_ = file_operations().open(path.c_str(), access | O_CLOEXEC, 0666);
  if (fd_ < 0) throw_error("cannot open file: ", std::strerror(errno), " (", path, ")");
  try {
    struct stat info {};
    ONDOL_CHECK(::fstat(fd_, &info) == 0, "cannot read file: ", std::strerror(errno), " (", path, ")");
    const std::string header = header_of(settings_);
    const auto size = static_cast<uint64_t>(info.st_size);
    std::string found(std::min<uint64_t>(size, header.size()), '\0');
    read(0, found.data(), found.size());
    if (found.size() < header.size() && header.starts_with(found)) {  // new, or its first write was cut short
      ONDOL_CHECK(!settings_.writes || (::ftruncate(fd_, 0) == 0 && ::write(fd_, header.data(), header.size()) ==
                                                                        static_cast<ssize_t>(header.size())),
                  "cannot write file: ", std::strerror(errno), " (", path, ")");
      end_ = header.size();
    } else if (found == header) {
      scan(header.size(), size);
    } else if (!found.starts_with(std::string(kMagic, sizeof(kMagic)))) {
      throw UsageError(concat("not a cache of teacher predictions (", path, ")"),
                       "choose another objective.cache.path");
    } else {
      uint32_t length = 0;
      std::memcpy(&length, found.data() + sizeof(kMagic), sizeof(length));
      std::string text(std::min<uint64_t>(std::min(length, kMostHeaderBytes), size), '\0');
      if (sizeof(kMagic) + sizeof(length) + text.size() <= size)
        read(sizeof(kMagic) + sizeof(length), text.data(), text.size());
      throw UsageError(concat("the cache holds other teacher predictions: ", text,
                              ", wanted: ", header.substr(sizeof(kMagic) + sizeof(length)), " (", path, ")"),
                       "choose another objective.cache.path, or remove the file");
    }
  } catch (...) {
    file_operations().close(fd_);
    throw;
  }
}

TeacherCache::~TeacherCache() { file_operations().close(fd_); }

uint64_t TeacherCache::payload_bytes(uint32_t targets) const {
  return uint64_t{targets} * (8 * static_cast<uint64_t>(settings_.top_k) + 4);
}

void TeacherCache::read(uint64_t offset, void* target, size_t bytes) const {
  for (size_t done = 0; done < bytes;) {
    const ssize_t count =
        ::pread(fd_, static_cast<char*>(target) + done, bytes - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      throw_error("cannot read file: ", count < 0 ? std::strerror(errno) : "it is too short", " (", settings_.path,
                  ")");
    }
    done += static_cast<size_t>(count);
  }
}

/// Finds the records; what follows the last whole one is cut off.
void TeacherCache::scan(uint64_t begin, uint64_t end) {
  end_ = begin;
  uint64_t last_key = 0, last_begin = begin;
  while (end - end_ >= sizeof(RecordHead)) {
    RecordHead head{};
    read(end_, &head, sizeof(head));
    ONDOL_CHECK(head.targets <= kMostTargets, "damaged file: a record of ", head.targets, " targets at byte ", end_,
                " (", settings_.path, ")");
    const uint64_t bytes = payload_bytes(head.targets);
    if (end - end_ - sizeof(head) < bytes) break;
    records_[head.key] = {end_ + sizeof(head), head.targets, head.checksum};
    last_key = head.key;
    last_begin = end_;
    end_ += sizeof(head) + bytes;
  }
  TeacherPredictions last;
  try {
    find(last_key, last);
  } catch (const Error&) {  // its bytes did not all reach the disk
    records_.erase(last_key);
    end_ = last_begin;
  }
  ONDOL_CHECK(!settings_.writes || end_ == end || ::ftruncate(fd_, static_cast<off_t>(end_)) == 0,
              "cannot write file: ", std::strerror(errno), " (", settings_.path, ")");
}

bool TeacherCache::find(uint64_t key, TeacherPredictions& found) const {
  const auto place = records_.find(key);
  if (place == records_.end()) return false;
  const Record& record = place->second;
  std::vector<char> bytes(payload_bytes(record.targets));
  read(record.offset, bytes.data(), bytes.size());
  ONDOL_CHECK(crc32(0, bytes.data(), bytes.size()) == record.checksum,
              "damaged file: checksum differs in the record at byte ", record.offset, " (", settings_.path, ")");
  std::string_view rest(bytes.data(), bytes.size());
  found = take_predictions(rest, record.targets, settings_.top_k);
  return true;
}

void TeacherCache::append(uint64_t key, const TeacherPredictions& predictions) {
  const auto targets = static_cast<uint32_t>(predictions.rest.size());
  std::string bytes(sizeof(RecordHead), '\0');
  bytes += bytes_of(predictions);
  ONDOL_CHECK(bytes.size() == sizeof(RecordHead) + payload_bytes(targets), "teacher predictions of a wrong size");
  const RecordHead head{key, targets, crc32(0, bytes.data() + sizeof(RecordHead), bytes.size() - sizeof(RecordHead))};
  std::memcpy(bytes.data(), &head, sizeof(head));
  const ssize_t written =
      settings_.writes ? file_operations().write(fd_, bytes.data(), bytes.size()) : static_cast<ssize_t>(bytes.size());
  if (written != static_cast<ssize_t>(bytes.size())) {
    const int reason = written < 0 ? errno : ENOSPC;
    if (written > 0 && ::ftruncate(fd_, static_cast<off_t>(end_)) != 0) {  // opening the file cuts it off
    }
    throw_error("cannot write file: ", std::strerror(reason), " (", settings_.path, ")");
  }
  records_[key] = {end_ + sizeof(RecordHead), targets, head.checksum};
  end_ += bytes.size();
}

}  // namespace ondol
