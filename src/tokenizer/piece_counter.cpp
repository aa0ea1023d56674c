#include "tokenizer/piece_counter.h"

#include <algorithm>
#include <atomic>

#include <ondol/base/error.h>
#include <ondol/base/parallel.h>

#include "tokenizer/hashing.h"

namespace ondol::tokenization {

namespace {

constexpr size_t kChunkBytes = size_t{1} << 17;

bool is_visible(char c) { return c > ' ' && c < 0x7f; }

/// Cuts a text into chunks behind newlines where no piece can reach over the cut.
void cut(std::string_view text, bool may_cut, std::vector<std::string_view>& chunks) {
  while (may_cut && text.size() > kChunkBytes) {
    size_t at = text.find('\n', kChunkBytes);
    while (at != text.npos && at + 1 < text.size() && !(is_visible(text[at - 1]) && is_visible(text[at + 1]))) {
      at = text.find('\n', at + 1);
    }
    if (at == text.npos || at + 1 >= text.size()) break;
    chunks.push_back(text.substr(0, at + 1));
    text.remove_prefix(at + 1);
  }
  if (!text.empty()) chunks.push_back(text);
}

}  // namespace

void PieceCounts::piece(std::string_view text) {
  uint64_t hash;
  if (text.size() <= 16) {
    const ShortKey key = short_key(text.data(), text.size());
    hash = hash_words(key.low, key.high + text.size());
  } else {
    hash = hash_bytes(text);
  }
  add(text, hash, 1);
}

void PieceCounts::add(const PieceCounts& other) {
  for (const Entry& entry : other.entries_) add(other.text(entry), entry.hash, entry.count);
}

void PieceCounts::add(std::string_view piece, uint64_t hash, int64_t count) {
  const size_t mask = slots_.size() - 1;
  const auto tag = static_cast<uint32_t>(hash >> 32);
  size_t slot = hash & mask;
  for (; slots_[slot].entry >= 0; slot = (slot + 1) & mask) {
    if (slots_[slot].tag != tag) continue;
    Entry& entry = entries_[static_cast<size_t>(slots_[slot].entry)];
    if (text(entry) == piece) {
      entry.count += count;
      return;
    }
  }
  if (entries_.size() >= INT32_MAX - 1 || piece.size() > UINT32_MAX)
    throw Error("too many distinct pieces to train on");
  slots_[slot] = {tag, static_cast<int32_t>(entries_.size())};
  entries_.push_back({hash, bytes_.size(), static_cast<uint32_t>(piece.size()), count});
  bytes_ += piece;
  if (entries_.size() * 2 > slots_.size()) grow();
}

void PieceCounts::grow() {
  slots_.assign(slots_.size() * 4, Slot{});
  const size_t mask = slots_.size() - 1;
  for (size_t i = 0; i < entries_.size(); ++i) {
    size_t slot = entries_[i].hash & mask;
    while (slots_[slot].entry >= 0) slot = (slot + 1) & mask;
    slots_[slot] = {static_cast<uint32_t>(entries_[i].hash >> 32), static_cast<int32_t>(i)};
  }
}

void CorpusCounter::add(std::string_view text) {
  std::vector<std::string_view> chunks;
  const bool may_cut = pre_tokenizer_.cuts_at_newline();
  const auto part = [&](std::string_view between) { cut(between, may_cut, chunks); };
  separators_.split(text, part, [](int32_t, std::string_view) {});

  const auto count_chunk = [&](std::string_view chunk, NormalizerBuffers& buffers, PieceCounts& counts) {
    if (normalizer_ != nullptr) chunk = normalizer_->normalize(chunk, buffers);
    if (!chunk.empty()) pre_tokenizer_.split(chunk, true, counts);
  };
  const auto workers = std::min<int64_t>(num_threads(), static_cast<int64_t>(chunks.size()));
  if (workers <= 1) {
    NormalizerBuffers buffers;
    for (const std::string_view chunk : chunks) count_chunk(chunk, buffers, total_);
    return;
  }
  std::vector<PieceCounts> counts(static_cast<size_t>(workers));
  std::atomic<size_t> next{0};
  parallel_for(workers, 1, [&](int64_t begin, int64_t) {
    NormalizerBuffers buffers;
    for (size_t i = next++; i < chunks.size(); i = next++) {
      count_chunk(chunks[i], buffers, counts[static_cast<size_t>(begin)]);
    }
  });
  for (const PieceCounts& part_counts : counts) total_.add(part_counts);
}

}  // namespace ondol::tokenization
