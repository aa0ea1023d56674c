#include "data/clean/duplicates.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include <ondol/base/error.h>

#include "data/clean/content_hash.h"
#include "data/clean/key_sorter.h"
#include "data/clean/words.h"

namespace ondol::clean {

namespace {

class ExactFinder : public DuplicateFinder {
 public:
  ExactFinder(const ExactDedupOptions& options, uint64_t memory_bytes, const std::string& directory)
      : normalize_(options.normalize), sorter_(memory_bytes, directory) {}

  void describe(std::string_view text, std::vector<uint32_t>& description) const override {
    description.clear();
    std::array<uint64_t, 2> hash;
    if (normalize_) {
      std::vector<uint64_t> words;
      word_hashes(text, words);
      if (words.empty()) return;
      ContentHash of_words;
      for (const uint64_t word : words) of_words.add(word);
      hash = of_words.value();
    } else {
      hash = content_hash(text);
    }
    for (const uint64_t half : hash) {
      description.push_back(static_cast<uint32_t>(half >> 32));
      description.push_back(static_cast<uint32_t>(half));
    }
  }

  void add(uint32_t document, uint64_t, const std::vector<uint32_t>& description) override {
    if (description.empty()) return;
    sorter_.add({description[0], description[1], description[2], description[3]}, document);
  }

  Duplicates finish(uint32_t documents, size_t max_examples) override {
    Duplicates found;
    found.drop.resize(documents);
    uint32_t kept = 0;
    sorter_.visit([&](uint32_t document, bool same_key) {
      if (!same_key) {
        kept = document;
        return;
      }
      found.drop[document] = true;
      found.examples.emplace_back(document, kept);
      if (found.examples.size() < 4096) return;
      std::sort(found.examples.begin(), found.examples.end());
      found.examples.resize(max_examples);
    });
    std::sort(found.examples.begin(), found.examples.end());
    found.examples.resize(std::min(found.examples.size(), max_examples));
    return found;
  }

 private:
  bool normalize_;
  KeySorter<4> sorter_;
};

/// Sets of documents by their least member.
class Clusters {
 public:
  explicit Clusters(uint32_t documents) : parents_(documents) { std::iota(parents_.begin(), parents_.end(), 0u); }
  uint32_t find(uint32_t document) {
    while (parents_[document] != document) {
      parents_[document] = parents_[parents_[document]];
      document = parents_[document];
    }
    return document;
  }
  void join(uint32_t a, uint32_t b) {
    a = find(a);
    b = find(b);
    parents_[std::max(a, b)] = std::min(a, b);
  }

 private:
  std::vector<uint32_t> parents_;
};

class MinHashFinder : public DuplicateFinder {
 public:
  MinHashFinder(const MinHashDedupOptions& options, uint64_t memory_bytes, const std::string& directory)
      : options_(options), hasher_(options.minhash), memory_bytes_(memory_bytes), sorter_(memory_bytes, directory) {
    if (options_.verify > 0) signatures_ = std::make_unique<TemporaryFile>(directory);
  }

  void describe(std::string_view text, std::vector<uint32_t>& description) const override {
    hasher_.signature(text, description);
  }

  void add(uint32_t document, uint64_t bytes, const std::vector<uint32_t>& description) override {
    if (options_.keep == MinHashDedupOptions::Keep::longest) {
      lengths_.resize(size_t{document} + 1);
      lengths_[document] = static_cast<uint32_t>(std::min<uint64_t>(bytes, std::numeric_limits<uint32_t>::max()));
    }
    if (description.empty()) return;
    if (signatures_) {
      signatures_->write_at(document * signature_bytes(), description.data(), signature_bytes());
    }
    hasher_.band_hashes(description, bands_);
    for (const uint64_t band : bands_) {
      sorter_.add({static_cast<uint32_t>(band >> 32), static_cast<uint32_t>(band)}, document);
    }
  }

  Duplicates finish(uint32_t documents, size_t max_examples) override {
    const uint64_t needed = documents * (sizeof(uint32_t) + (lengths_.empty() ? 0 : 2 * sizeof(uint32_t)));
    if (needed > std::max(memory_bytes_, uint64_t{16} << 20)) {
      throw UsageError(concat("minhash_dedup: the clusters of ", documents, " documents need ", (needed >> 20) + 1,
                              " MiB of memory, allowed are ", memory_bytes_ >> 20),
                       "raise memory_limit_mib to " + std::to_string(2 * (needed >> 20) + 64));
    }
    Clusters clusters(documents);
    std::vector<uint32_t> leaders;  // of the present bucket: documents that do not resemble each other
    sorter_.visit([&](uint32_t document, bool same_key) {
      if (!same_key) leaders.clear();
      for (const uint32_t leader : leaders) {
        if (!resemble(clusters, leader, document)) continue;
        clusters.join(leader, document);
        return;
      }
      if (leaders.size() < kMaxLeaders) leaders.push_back(document);
    });
    return drop_all_but_one(clusters, documents, max_examples);
  }

 private:
  static constexpr size_t kMaxLeaders = 64;

  uint64_t signature_bytes() const { return static_cast<uint64_t>(hasher_.size()) * sizeof(uint32_t); }

  bool resemble(Clusters& clusters, uint32_t a, uint32_t b) {
    if (!signatures_ || clusters.find(a) == clusters.find(b)) return true;
    std::vector<uint32_t> first(static_cast<size_t>(hasher_.size())), second(first.size());
    signatures_->read_at(a * signature_bytes(), first.data(), signature_bytes());
    signatures_->read_at(b * signature_bytes(), second.data(), signature_bytes());
    return estimate_jaccard(first, second) >= options_.verify;
  }

  Duplicates drop_all_but_one(Clusters& clusters, uint32_t documents, size_t max_examples) {
    std::vector<uint32_t> longest;  // of each cluster, by its least member
    if (!lengths_.empty()) {
      lengths_.resize(documents);
      longest.resize(documents);
      std::iota(longest.begin(), longest.end(), 0u);
      for (uint32_t d = 0; d < documents; ++d) {
        uint32_t& best = longest[clusters.find(d)];
        if (lengths_[d] > lengths_[best]) best = d;
      }
    }
    Duplicates found;
    found.drop.resize(documents);
    for (uint32_t d = 0; d < documents; ++d) {
      const uint32_t least = clusters.find(d);
      const uint32_t kept = longest.empty() ? least : longest[least];
      if (kept == d) continue;
      found.drop[d] = true;
      if (found.examples.size() < max_examples) found.examples.emplace_back(d, kept);
    }
    return found;
  }

  MinHashDedupOptions options_;
  MinHasher hasher_;
  uint64_t memory_bytes_;
  KeySorter<2> sorter_;
  std::vector<uint64_t> bands_;
  std::vector<uint32_t> lengths_;              // when the longest is kept
  std::unique_ptr<TemporaryFile> signatures_;  // when candidates are verified
};

}  // namespace

std::unique_ptr<DuplicateFinder> make_duplicate_finder(const ExactDedupOptions& options, uint64_t memory_bytes,
                                                       const std::string& temporary_directory) {
  return std::make_unique<ExactFinder>(options, memory_bytes, temporary_directory);
}

std::unique_ptr<DuplicateFinder> make_duplicate_finder(const MinHashDedupOptions& options, uint64_t memory_bytes,
                                                       const std::string& temporary_directory) {
  return std::make_unique<MinHashFinder>(options, memory_bytes, temporary_directory);
}

}  // namespace ondol::clean
