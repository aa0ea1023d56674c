#include "train/checkpoint_writer.h"

#include <chrono>
#include <utility>

#include "train/checkpoint_files.h"

namespace ondol {

namespace {

bool is_ready(const std::future<void>& future) {
  return future.valid() && future.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

}  // namespace

CheckpointWriter::UnderWay::UnderWay(const std::string& run, const CheckpointParts& parts, int64_t to_keep,
                                     const Ranks& ranks)
    : write(checkpoint_path(run, parts.state.step), checkpoint_files(parts), ranks.rank(), ranks.size()),
      run_directory(run),
      step(parts.state.step),
      keep(to_keep) {}

CheckpointWriter::~CheckpointWriter() { abandon(); }

void CheckpointWriter::prepare(const std::string& run_directory, const CheckpointParts& parts, int64_t keep) {
  ONDOL_CHECK(!under_way_, "a checkpoint is being written already");
  under_way_.emplace(run_directory, parts, keep, ranks_);
}

void CheckpointWriter::write_part() {
  try {
    under_way_->write.write_part();
  } catch (const Error& error) {
    throw checkpoint_error(under_way_->step, error);
  }
}

/// The first rank, once all have written their part.
void CheckpointWriter::publish() {
  try {
    under_way_->write.publish(/*with_manifest=*/true);
  } catch (const Error& error) {
    throw checkpoint_error(under_way_->step, error);
  }
  remove_old_checkpoints(under_way_->run_directory, under_way_->step, under_way_->keep);
}

void CheckpointWriter::start(const std::string& run_directory, const CheckpointParts& parts, int64_t keep) {
  prepare(run_directory, parts, keep);
  under_way_->write.snapshot();
  under_way_->part = std::async(std::launch::async, [this] { write_part(); });
}

std::string CheckpointWriter::write(const std::string& run_directory, const CheckpointParts& parts, int64_t keep) {
  prepare(run_directory, parts, keep);
  under_way_->part = std::async(std::launch::deferred, [this] { write_part(); });
  return finish();
}

/// What the part's thread threw is thrown once: then nothing is under way any more.
void CheckpointWriter::finish_part() {
  if (!under_way_->part.valid()) return;
  try {
    under_way_->part.get();
  } catch (...) {
    under_way_.reset();
    throw;
  }
}

bool CheckpointWriter::part_is_written() {
  if (!under_way_) return true;
  if (under_way_->part.valid() && !is_ready(under_way_->part)) return false;
  finish_part();
  return true;
}

void CheckpointWriter::all_are_written() {
  if (!under_way_ || under_way_->publication.valid()) return;
  finish_part();
  if (!ranks_.first()) return under_way_.reset();
  under_way_->publication = std::async(std::launch::async, [this] { publish(); });
}

/// Waits for the publication.
std::string CheckpointWriter::take() {
  const std::string written = checkpoint_path(under_way_->run_directory, under_way_->step);
  std::future<void> publication = std::move(under_way_->publication);
  publication.wait();
  under_way_.reset();
  publication.get();
  return written;
}

std::string CheckpointWriter::poll() {
  if (!under_way_) return "";
  // One process needs no report of a step to know that all have written.
  if (ranks_.size() == 1 && !under_way_->publication.valid() && part_is_written()) all_are_written();
  return is_ready(under_way_->publication) ? take() : "";
}

std::string CheckpointWriter::finish() {
  if (!under_way_) return "";
  if (!under_way_->publication.valid()) {
    finish_part();
    ranks_.meet();
    all_are_written();
  }
  return under_way_ ? take() : "";
}

void CheckpointWriter::abandon() noexcept {
  if (!under_way_) return;
  try {
    finish_part();
    if (ranks_.first() && !under_way_->publication.valid() && under_way_->write.is_complete()) publish();
    if (under_way_->publication.valid()) under_way_->publication.get();
  } catch (const std::exception&) {
  }
  under_way_.reset();
}

}  // namespace ondol
