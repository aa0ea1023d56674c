#include "train/directory_write.h"

#include <filesystem>
#include <map>
#include <set>

#include <ondol/base/file.h>

#include "base/json_reader.h"
#include "train/checkpoint_manifest.h"

namespace ondol {

namespace {

namespace fs = std::filesystem;

/// DIRECTORY/.NAME.PURPOSE: hidden, and removed by the next run if this one dies. The same on all ranks.
std::string hidden_name(const std::string& directory, const char* purpose) {
  const fs::path path(directory);
  return concat((path.parent_path() / ("." + path.filename().string())).string(), ".", purpose);
}

/// Puts a finished directory in place of another. Nothing is lost when the process dies in between: the name is then
/// absent for a moment, but never half filled.
void replace_directory(const std::string& finished, const std::string& target) {
  const std::string old = hidden_name(target, "old");
  std::error_code ignored;
  fs::remove_all(old, ignored);
  if (fs::exists(target)) rename_durable(target, old);
  rename_durable(finished, target);
  fs::remove_all(old, ignored);
}

std::string to_json(const std::vector<ChunkChecksums>& files) {
  Json out = Json::array();
  for (const ChunkChecksums& file : files) {
    Json chunks = Json::array(), terms = Json::array();
    for (const auto& [chunk, term] : file.terms()) {
      chunks.push_back(chunk);
      terms.push_back(term);
    }
    out.push_back({{"bytes", file.bytes()}, {"chunks", std::move(chunks)}, {"terms", std::move(terms)}});
  }
  return Json{{"files", std::move(out)}}.dump();
}

/// Adds what another rank has written.
void add_part(std::vector<ChunkChecksums>& files, const std::string& path) {
  const Json document = load_json(path, ErrorKind::failure, {.max_bytes = uint64_t{1} << 30});
  const JsonReader reader(document, path, ErrorKind::failure);
  const std::vector<JsonReader> parts = reader.children("files");
  ONDOL_CHECK(parts.size() == files.size(), "a rank wrote ", parts.size(), " files, ", files.size(), " expected (",
              path, ")");
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto chunks = parts[i].require<std::vector<uint64_t>>("chunks");
    const auto values = parts[i].require<std::vector<uint32_t>>("terms");
    ONDOL_CHECK(chunks.size() == values.size(), "damaged list of checksums (", path, ")");
    std::map<uint64_t, uint32_t> terms;
    for (size_t k = 0; k < chunks.size(); ++k) terms.emplace(chunks[k], values[k]);
    files[i].add({files[i].file_bytes(), kChecksumChunkBytes, parts[i].require<uint64_t>("bytes"), std::move(terms)});
  }
}

}  // namespace

void DirectoryFiles::add(ModelFiles files, const std::string& prefix) {
  for (SlicedFile& file : files.weights) {
    file.name = prefix + file.name;
    sliced.push_back(std::move(file));
  }
  for (TextFile& file : files.texts) texts.push_back({prefix + file.name, std::move(file.text)});
}

DirectoryWrite::DirectoryWrite(std::string target, DirectoryFiles files, int rank, int ranks)
    : target_(std::move(target)),
      hidden_(hidden_name(target_, "tmp")),
      rank_(rank),
      ranks_(ranks),
      texts_(std::move(files.texts)),
      more_(std::move(files.more)) {
  for (const SlicedFile& file : files.sliced) {
    names_.push_back(file.name);
    shares_.emplace_back(file, rank, ranks);
  }
}

std::string DirectoryWrite::part_path(int rank) const { return concat(hidden_, "/.part-", rank); }

void DirectoryWrite::discard() const noexcept {
  std::error_code ignored;
  fs::remove_all(hidden_, ignored);
}

void DirectoryWrite::snapshot() {
  for (SlicedFileShare& share : shares_) share.snapshot();
}

void DirectoryWrite::write_own() {
  make_directories(hidden_);
  for (size_t i = 0; i < shares_.size(); ++i) {
    make_directories(parent_directory(hidden_ + "/" + names_[i]));
    written_.push_back(std::move(shares_[i]).write(hidden_, kChecksumChunkBytes));
  }
  shares_.clear();
  if (rank_ > 0) return write_file_atomic(part_path(rank_), to_json(written_));
  for (const TextFile& file : texts_) write_file_atomic(hidden_ + "/" + file.name, file.text);
  if (more_) more_(hidden_);
}

/// What several ranks write is left there when one fails: the others may not have heard of it yet, and would fail too,
/// with an error that hides the cause.
void DirectoryWrite::write_part() {
  try {
    write_own();
  } catch (const Error& error) {
    if (ranks_ == 1) {
      discard();
      throw;
    }
    throw Error(concat("rank ", rank_, ": ", error.what()), error.hint(), error.kind());
  }
}

bool DirectoryWrite::is_complete() const {
  for (int rank = 1; rank < ranks_; ++rank) {
    std::error_code ignored;
    if (!fs::exists(part_path(rank), ignored)) return false;
  }
  return true;
}

std::vector<ChunkChecksums> DirectoryWrite::collect() const {
  std::vector<ChunkChecksums> files = written_;
  for (int rank = 1; rank < ranks_; ++rank) add_part(files, part_path(rank));
  for (int rank = 1; rank < ranks_; ++rank) {
    std::error_code error;
    fs::remove(part_path(rank), error);
    ONDOL_CHECK(!error, "cannot remove: ", error.message(), " (", part_path(rank), ")");
  }
  return files;
}

void DirectoryWrite::publish_all(bool with_manifest) {
  const std::vector<ChunkChecksums> files = collect();
  std::map<std::string, std::vector<uint32_t>> known;
  std::set<std::string> directories = {hidden_};
  for (size_t i = 0; i < files.size(); ++i) {
    ONDOL_CHECK(files[i].bytes() == files[i].file_bytes(), "the ranks wrote ", files[i].bytes(), " bytes of ",
                files[i].file_bytes(), " (", hidden_, "/", names_[i], ")");
    if (with_manifest) known.emplace(names_[i], files[i].values());
    directories.insert(parent_directory(hidden_ + "/" + names_[i]));
  }
  if (with_manifest) write_manifest(hidden_, known);
  for (const std::string& directory : directories) sync_directory(directory);
  replace_directory(hidden_, target_);
}

void DirectoryWrite::publish(bool with_manifest) {
  try {
    publish_all(with_manifest);
  } catch (...) {
    discard();
    throw;
  }
}

void write_together(const std::string& target, DirectoryFiles files, bool with_manifest, const Ranks& ranks) {
  DirectoryWrite write(target, std::move(files), ranks.rank(), ranks.size());
  if (ranks.first()) write.discard();
  ranks.meet();
  write.write_part();
  ranks.meet();
  if (ranks.first()) write.publish(with_manifest);
  ranks.meet();
}

void remove_directory(const std::string& directory) {
  const std::string hidden = hidden_name(directory, "old");
  std::error_code ignored;
  fs::remove_all(hidden, ignored);
  fs::rename(directory, hidden, ignored);
  fs::remove_all(hidden, ignored);
}

}  // namespace ondol
