#include "tokenizer/unigram_learner.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include <ondol/base/parallel.h>

#include "tokenizer/trie.h"
#include "tokenizer/utf8.h"

namespace ondol::tokenization {

namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();
/// Sums are made in so many parts, whatever the number of threads, so that they round alike.
constexpr int64_t kParts = 16;
constexpr double kUnknownPenalty = 10.0;
constexpr double kLeastExpected = 0.5;  // pieces expected less often are dropped
constexpr double kShrink = 0.75;        // share of the pieces that a round of pruning keeps
constexpr int kStepsBetweenPruning = 2;
/// Pruning stops a little above the wanted size; the least likely pieces go at the end.
constexpr double kSlack = 1.1;

double log_add(double a, double b) {
  if (a < b) std::swap(a, b);
  return b == kNever ? a : a + std::log1p(std::exp(b - a));
}

/// ψ(x) by its asymptotic series, moved up to x ≥ 7.
double digamma(double x) {
  double result = 0;
  for (; x < 7; ++x) result -= 1 / x;
  x -= 0.5;
  const double y = 1 / (x * x);
  return result + std::log(x) + y * (1.0 / 24 + y * (-7.0 / 960 + y * (31.0 / 8064 - y * 127.0 / 30720)));
}

struct Word {
  std::string_view text;
  double count;
};

/// All ways to cut a word into pieces.
class Lattice {
 public:
  struct Edge {
    uint32_t begin, end;
    int32_t id;  // -1: a character without a piece
    double score;
  };

  void build(std::string_view word, const Trie& trie, const std::vector<ScoredPiece>& pieces, double unknown_score) {
    edges_.clear();
    size_ = word.size();
    for (size_t begin = 0; begin < word.size();) {
      const size_t character = decode_code_point(word, begin).length;
      bool known = false;
      Trie::Node node = Trie::kRoot;
      for (size_t i = begin; i < word.size(); ++i) {
        node = trie.child(node, static_cast<uint8_t>(word[i]));
        if (node == Trie::kRoot) break;
        const int32_t id = trie.value(node);
        if (id < 0) continue;
        add(begin, i + 1, id, pieces[static_cast<size_t>(id)].score);
        known = known || i + 1 - begin == character;
      }
      if (!known) add(begin, begin + character, -1, unknown_score);
      begin += character;
    }
  }

  /// Adds the expected counts of the pieces; returns the log-likelihood of the word.
  double add_expectations(double count, std::vector<double>& expected) {
    forward_.assign(size_ + 1, kNever);
    backward_.assign(size_ + 1, kNever);
    forward_[0] = backward_[size_] = 0;
    for (const Edge& e : edges_) forward_[e.end] = log_add(forward_[e.end], forward_[e.begin] + e.score);
    for (auto e = edges_.rbegin(); e != edges_.rend(); ++e) {
      backward_[e->begin] = log_add(backward_[e->begin], backward_[e->end] + e->score);
    }
    for (const Edge& e : edges_) {
      if (e.id < 0) continue;
      expected[static_cast<size_t>(e.id)] +=
          count * std::exp(forward_[e.begin] + e.score + backward_[e.end] - forward_[size_]);
    }
    return count * forward_[size_];
  }

  /// The ids of the best path, from the last to the first; without the edge that is the whole word when `cut`. Empty
  /// when there is none.
  const std::vector<int32_t>& best_path(bool cut) {
    forward_.assign(size_ + 1, kNever);
    best_.assign(size_ + 1, nullptr);
    forward_[0] = 0;
    for (const Edge& e : edges_) {
      if (cut && e.begin == 0 && e.end == size_) continue;
      const double score = forward_[e.begin] + e.score;
      if (forward_[e.begin] == kNever || score <= forward_[e.end]) continue;
      forward_[e.end] = score;
      best_[e.end] = &e;
    }
    path_.clear();
    if (forward_[size_] == kNever) return path_;
    for (size_t at = size_; at > 0; at = best_[at]->begin) path_.push_back(best_[at]->id);
    return path_;
  }

 private:
  void add(size_t begin, size_t end, int32_t id, double score) {
    edges_.push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end), id, score});
  }

  size_t size_ = 0;
  std::vector<Edge> edges_;  // by ascending begin
  std::vector<double> forward_, backward_;
  std::vector<const Edge*> best_;
  std::vector<int32_t> path_;
};

class UnigramLearner {
 public:
  UnigramLearner(const PieceCounts& words, const UnigramLimits& limits)
      : limits_(limits), characters_(required_characters(words, limits.character_coverage)) {
    for (const auto& entry : words.entries()) words_.push_back({words.text(entry), static_cast<double>(entry.count)});
    // The order of the counter depends on the threads.
    std::sort(words_.begin(), words_.end(), [](const Word& a, const Word& b) { return a.text < b.text; });
    pieces_ = candidate_pieces(words, limits, characters_);
    double sum = 0;
    for (const ScoredPiece& piece : pieces_) sum += piece.score;
    for (ScoredPiece& piece : pieces_) piece.score = std::log(piece.score / sum);
  }

  std::vector<ScoredPiece> run() {
    const auto wanted = static_cast<size_t>(static_cast<double>(limits_.pieces) * kSlack);
    while (true) {
      for (int step = 0; step < kStepsBetweenPruning; ++step) maximize(expect());
      if (pieces_.size() <= wanted) break;
      const size_t before = pieces_.size();
      prune(std::max(wanted, static_cast<size_t>(kShrink * static_cast<double>(before))));
      if (pieces_.size() == before) break;
    }
    return finish();
  }

 private:
  void index() {
    std::vector<std::pair<std::string_view, int32_t>> keys;
    double least = 0;
    for (const ScoredPiece& piece : pieces_) {
      keys.emplace_back(piece.text, static_cast<int32_t>(keys.size()));
      least = std::min(least, piece.score);
    }
    trie_ = Trie(std::move(keys));
    unknown_score_ = least - kUnknownPenalty;
  }

  /// Calls body(word, lattice, sums) for every word and returns the sums of all parts, by piece.
  template <class Body>
  std::vector<double> sum_over_words(const Body& body) {
    index();
    std::vector<std::vector<double>> sums(kParts);
    const auto total = static_cast<int64_t>(words_.size());
    parallel_for(kParts, 1, [&](int64_t first, int64_t last) {
      Lattice lattice;
      for (int64_t part = first; part < last; ++part) {
        std::vector<double>& sum = sums[static_cast<size_t>(part)];
        sum.assign(pieces_.size(), 0);
        for (int64_t i = total * part / kParts; i < total * (part + 1) / kParts; ++i) {
          const Word& word = words_[static_cast<size_t>(i)];
          lattice.build(word.text, trie_, pieces_, unknown_score_);
          body(word, lattice, sum);
        }
      }
    });
    for (size_t part = 1; part < sums.size(); ++part) {
      for (size_t id = 0; id < pieces_.size(); ++id) sums[0][id] += sums[part][id];
    }
    return std::move(sums[0]);
  }

  std::vector<double> expect() {
    return sum_over_words([](const Word& word, Lattice& lattice, std::vector<double>& sum) {
      lattice.add_expectations(word.count, sum);
    });
  }

  /// The Bayesian form of the maximisation step, which makes rare pieces rarer still.
  void maximize(const std::vector<double>& expected) {
    std::vector<ScoredPiece> kept;
    double sum = 0;
    for (size_t id = 0; id < pieces_.size(); ++id) {
      if (expected[id] < kLeastExpected) continue;
      kept.push_back({std::move(pieces_[id].text), expected[id]});
      sum += expected[id];
    }
    const double log_sum = digamma(sum);
    for (ScoredPiece& piece : kept) piece.score = digamma(piece.score) - log_sum;
    pieces_ = std::move(kept);
  }

  /// Keeps the `size` pieces whose loss would cost most: their occurrences would fall to the best other way to spell
  /// them.
  void prune(size_t size) {
    const std::vector<double> counts = sum_over_words([](const Word& word, Lattice& lattice, std::vector<double>& sum) {
      for (const int32_t id : lattice.best_path(false)) {
        if (id >= 0) sum[static_cast<size_t>(id)] += word.count;
      }
    });
    double total = 0;
    for (const double count : counts) total += count;
    std::vector<std::pair<double, size_t>> losses(pieces_.size());  // infinite: keep, negative infinity: drop
    parallel_for(static_cast<int64_t>(pieces_.size()), 1024, [&](int64_t first, int64_t last) {
      Lattice lattice;
      for (auto id = static_cast<size_t>(first); id < static_cast<size_t>(last); ++id) {
        losses[id] = {loss_of(id, counts, total, lattice), id};
      }
    });
    std::sort(losses.begin(), losses.end(), [](const auto& a, const auto& b) {
      return a.first != b.first ? a.first > b.first : a.second < b.second;
    });
    std::vector<size_t> kept;
    for (const auto& [loss, id] : losses) {
      if (kept.size() < size && loss != kNever) kept.push_back(id);
    }
    std::sort(kept.begin(), kept.end());
    std::vector<ScoredPiece> pieces;
    for (const size_t id : kept) pieces.push_back(std::move(pieces_[id]));
    pieces_ = std::move(pieces);
  }

  double loss_of(size_t id, const std::vector<double>& counts, double total, Lattice& lattice) const {
    lattice.build(pieces_[id].text, trie_, pieces_, unknown_score_);
    const std::vector<int32_t>& best = lattice.best_path(false);
    if (best.size() != 1) return kNever;  // it is better spelled by others
    const std::vector<int32_t>& other = lattice.best_path(true);
    const bool spelled = !other.empty() && std::find(other.begin(), other.end(), -1) == other.end();
    if (!spelled) return -kNever;
    if (counts[id] == 0) return kNever;
    const double log_here = std::log(counts[id]) - std::log(total);
    const double log_total = std::log(total + counts[id] * static_cast<double>(other.size() - 1));
    double log_other = 0;
    for (const int32_t part : other) log_other += std::log(counts[static_cast<size_t>(part)] + counts[id]) - log_total;
    return counts[id] / total * (log_here - log_other);
  }

  std::vector<ScoredPiece> finish() {
    std::unordered_map<std::string, double> known;
    double least = 0;
    for (const ScoredPiece& piece : pieces_) {
      known[piece.text] = piece.score;
      least = std::min(least, piece.score);
    }
    std::vector<ScoredPiece> result;
    for (const ScoredPiece& character : characters_) {
      const auto found = known.find(character.text);
      // Characters that no cut needs come last, each a little less likely than the one before.
      result.push_back({character.text, found != known.end() ? found->second : least -= 1e-4});
      if (found != known.end()) known.erase(found);
    }
    const auto by_score = [](const ScoredPiece& a, const ScoredPiece& b) {
      return a.score != b.score ? a.score > b.score : a.text < b.text;
    };
    std::sort(pieces_.begin(), pieces_.end(), by_score);
    for (const ScoredPiece& piece : pieces_) {
      if (static_cast<int64_t>(result.size()) >= limits_.pieces) break;
      if (known.contains(piece.text)) result.push_back(piece);
    }
    std::sort(result.begin(), result.end(), by_score);
    return result;
  }

  UnigramLimits limits_;
  std::vector<ScoredPiece> characters_;
  std::vector<Word> words_;
  std::vector<ScoredPiece> pieces_;
  Trie trie_;
  double unknown_score_ = 0;
};

}  // namespace

std::vector<ScoredPiece> learn_unigram(const PieceCounts& words, const UnigramLimits& limits) {
  return UnigramLearner(words, limits).run();
}

}  // namespace ondol::tokenization
