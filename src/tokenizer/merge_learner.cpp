#include "tokenizer/merge_learner.h"

#include <algorithm>
#include <bit>
#include <queue>
#include <string>

#include <ondol/base/error.h>

namespace ondol::tokenization {

namespace {

constexpr int32_t kNone = -1;

/// An adjacent pair of symbols; its places are a stretch of the arena.
struct Pair {
  int32_t left, right;
  int64_t count = 0;
  uint64_t first_place = 0;
  uint64_t num_places = 0;
};

/// Index of a pair by its ids: open addressing.
class PairIndex {
 public:
  /// The slot of the pair: the index stored there, or kNone to be filled in by the caller.
  int32_t& operator()(int32_t left, int32_t right) {
    if (used_ * 2 >= slots_.size()) grow();
    Slot& slot = slots_[find(key_of(left, right))];
    if (slot.key == kFree) {
      slot.key = key_of(left, right);
      ++used_;
    }
    return slot.pair;
  }

 private:
  static constexpr uint64_t kFree = ~uint64_t{0};
  struct Slot {
    uint64_t key = kFree;
    int32_t pair = kNone;
  };
  static uint64_t key_of(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  size_t find(uint64_t key) const {
    const size_t mask = slots_.size() - 1;
    size_t at = ((key ^ key >> 29) * 0x9e3779b97f4a7c15u) >> (64 - std::countr_zero(slots_.size()));
    while (slots_[at].key != kFree && slots_[at].key != key) at = (at + 1) & mask;
    return at;
  }
  void grow() {
    std::vector<Slot> old(slots_.size() * 4);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.key != kFree) slots_[find(slot.key)] = slot;
    }
  }

  std::vector<Slot> slots_ = std::vector<Slot>(size_t{1} << 14);
  size_t used_ = 0;
};

class MergeLearner {
 public:
  MergeLearner(WeightedWords words, const MergeLimits& limits, int32_t next_id, StringTable& tokens,
               std::string_view prefix)
      : limits_(limits),
        tokens_(tokens),
        prefix_(prefix),
        next_id_(next_id),
        heap_(Later{this}),
        left_(static_cast<size_t>(limits.vocab_size)),
        right_(static_cast<size_t>(limits.vocab_size)) {
    lay_out(std::move(words));
    find_first_pairs();
  }

  std::vector<LearnedMerge> run() {
    std::vector<LearnedMerge> merges;
    std::string product;
    while (next_id_ < limits_.vocab_size && !heap_.empty()) {
      const Candidate top = heap_.top();
      heap_.pop();
      Pair& pair = pairs_[static_cast<size_t>(top.pair)];
      if (pair.count != top.count) {
        propose(top.pair);
        continue;
      }
      product = tokens_.text(pair.left);
      std::string_view right = tokens_.text(pair.right);
      if (right.starts_with(prefix_)) right.remove_prefix(prefix_.size());
      product += right;
      int32_t id = tokens_.find(product);
      if (id == kNone) {
        id = next_id_++;
        tokens_.add(id, product);
      }
      merges.push_back({pair.left, pair.right, id});
      merge(top.pair, id);
    }
    return merges;
  }

 private:
  struct Candidate {
    int64_t count;
    int32_t pair;
  };
  struct Later {  // "less" of the heap: true when a comes after b
    const MergeLearner* learner;
    bool operator()(const Candidate& a, const Candidate& b) const {
      return a.count != b.count ? a.count < b.count : learner->loses_tie(a.pair, b.pair);
    }
  };
  /// What one merge changes on one side, by the id of the neighbour.
  struct Side {
    explicit Side(size_t vocab_size) : lost(vocab_size, 0), pair(vocab_size, kNone) {}
    std::vector<int64_t> lost;     // count that the pair of neighbour and merged symbol loses
    std::vector<int32_t> pair;     // index into gained_ of the pair of neighbour and product
    std::vector<int32_t> touched;  // neighbours seen
  };
  struct Gained {
    int32_t left, right;
    int64_t count;
    uint64_t num_places;
  };
  struct Place {
    int32_t gained, position;
  };

  bool loses_tie(int32_t a, int32_t b) const {
    const Pair& x = pairs_[static_cast<size_t>(a)];
    const Pair& y = pairs_[static_cast<size_t>(b)];
    if (limits_.tie_break == BpeTieBreak::smallest_ids) {
      return x.left != y.left ? x.left > y.left : x.right > y.right;
    }
    const int order = tokens_.text(x.left).compare(tokens_.text(y.left));
    return order != 0 ? order < 0 : tokens_.text(x.right) < tokens_.text(y.right);
  }

  void lay_out(WeightedWords words) {
    symbol_ = std::move(words.symbols);
    weight_ = std::move(words.counts);
    if (symbol_.size() >= INT32_MAX) {
      throw Error(concat("the distinct pieces have ", symbol_.size(), " symbols, too many to train on"));
    }
    next_.reserve(symbol_.size());
    previous_.reserve(symbol_.size());
    word_.reserve(symbol_.size());
    int32_t at = 0, word = 0;
    for (const uint32_t length : words.lengths) {
      for (uint32_t i = 0; i < length; ++i, ++at) {
        previous_.push_back(i == 0 ? kNone : at - 1);
        next_.push_back(i + 1 == length ? kNone : at + 1);
        word_.push_back(word);
      }
      ++word;
    }
  }

  void find_first_pairs() {
    const auto count = static_cast<int32_t>(symbol_.size());
    std::vector<int32_t> pair_at(symbol_.size(), kNone);
    for (int32_t i = 0; i < count; ++i) {
      const int32_t next = next_[index(i)];
      if (next == kNone) continue;
      int32_t& known = pair_index_(symbol_[index(i)], symbol_[index(next)]);
      if (known == kNone) {
        known = static_cast<int32_t>(pairs_.size());
        pairs_.push_back({symbol_[index(i)], symbol_[index(next)]});
      }
      Pair& pair = pairs_[index(known)];
      pair.count += weight_[index(word_[index(i)])];
      ++pair.num_places;
      pair_at[index(i)] = known;
    }
    uint64_t end = 0;
    for (Pair& pair : pairs_) {
      pair.first_place = end;
      end += pair.num_places;
      pair.num_places = 0;
    }
    places_.resize(end);
    for (int32_t i = 0; i < count; ++i) {
      if (pair_at[index(i)] == kNone) continue;
      Pair& pair = pairs_[index(pair_at[index(i)])];
      places_[pair.first_place + pair.num_places++] = i;
    }
    for (size_t i = 0; i < pairs_.size(); ++i) propose(static_cast<int32_t>(i));
  }

  void propose(int32_t pair_number) {
    const Pair& pair = pairs_[index(pair_number)];
    if (pair.count < limits_.min_count) return;
    const size_t length = tokens_.text(pair.left).size() + tokens_.text(pair.right).size();
    if (limits_.max_token_length > 0 && length > static_cast<size_t>(limits_.max_token_length)) return;
    heap_.push({pair.count, pair_number});
  }

  void merge(int32_t pair_number, int32_t product) {
    const Pair merged = pairs_[index(pair_number)];
    pairs_[index(pair_number)].count = 0;
    gained_.clear();
    new_places_.clear();
    for (uint64_t i = 0; i < merged.num_places; ++i) {
      const int32_t at = places_[merged.first_place + i];
      const int32_t second = next_[index(at)];
      if (symbol_[index(at)] != merged.left || second == kNone || symbol_[index(second)] != merged.right) continue;
      const int64_t weight = weight_[index(word_[index(at)])];
      const int32_t before = previous_[index(at)], after = next_[index(second)];
      if (before != kNone) {
        const int32_t neighbour = symbol_[index(before)];
        note(left_, neighbour, neighbour, product, weight, before);
      }
      if (after != kNone) {
        const int32_t neighbour = symbol_[index(after)];
        note(right_, neighbour, product, neighbour, weight, at);
        previous_[index(after)] = at;
      }
      symbol_[index(at)] = product;
      symbol_[index(second)] = kNone;
      next_[index(at)] = after;
    }
    const std::vector<int32_t> changed = add_gained();
    // After the gains: a pair that this merge made may have been lost in it again ("abab").
    for (const int32_t neighbour : left_.touched) lose(left_, neighbour, neighbour, merged.left, pair_number);
    for (const int32_t neighbour : right_.touched) lose(right_, neighbour, merged.right, neighbour, pair_number);
    left_.touched.clear();
    right_.touched.clear();
    for (const int32_t changed_pair : changed) propose(changed_pair);
  }

  void note(Side& side, int32_t neighbour, int32_t left, int32_t right, int64_t weight, int32_t position) {
    int32_t& gained = side.pair[index(neighbour)];
    if (gained == kNone) {
      gained = static_cast<int32_t>(gained_.size());
      gained_.push_back({left, right, 0, 0});
      side.touched.push_back(neighbour);
    }
    side.lost[index(neighbour)] += weight;
    gained_[index(gained)].count += weight;
    ++gained_[index(gained)].num_places;
    new_places_.push_back({gained, position});
  }

  /// Enters the gained pairs with their places; returns their numbers.
  std::vector<int32_t> add_gained() {
    std::vector<int32_t> numbers;
    std::vector<uint64_t> cursor;
    for (const Gained& gained : gained_) {
      int32_t& known = pair_index_(gained.left, gained.right);
      if (known == kNone) {
        known = static_cast<int32_t>(pairs_.size());
        pairs_.push_back({gained.left, gained.right});
      }
      Pair& pair = pairs_[index(known)];
      // A pair is known already only when two merges have the same product: its old places move along.
      const uint64_t first = places_.size();
      places_.resize(first + pair.num_places + gained.num_places);
      std::copy_n(places_.begin() + static_cast<ptrdiff_t>(pair.first_place), pair.num_places,
                  places_.begin() + static_cast<ptrdiff_t>(first));
      cursor.push_back(first + pair.num_places);
      pair.first_place = first;
      pair.num_places += gained.num_places;
      pair.count += gained.count;
      numbers.push_back(known);
    }
    for (const Place& place : new_places_) places_[cursor[index(place.gained)]++] = place.position;
    for (size_t i = 0; i < numbers.size(); ++i) {
      const Pair& pair = pairs_[index(numbers[i])];
      if (pair.num_places == gained_[i].num_places) continue;
      const auto begin = places_.begin() + static_cast<ptrdiff_t>(pair.first_place);
      std::sort(begin, begin + static_cast<ptrdiff_t>(pair.num_places));
    }
    return numbers;
  }

  void lose(Side& side, int32_t neighbour, int32_t left, int32_t right, int32_t merged) {
    const int32_t known = pair_index_(left, right);
    if (known != kNone && known != merged) pairs_[index(known)].count -= side.lost[index(neighbour)];
    side.lost[index(neighbour)] = 0;
    side.pair[index(neighbour)] = kNone;
  }

  static size_t index(int32_t i) { return static_cast<size_t>(i); }

  MergeLimits limits_;
  StringTable& tokens_;
  std::string_view prefix_;
  int32_t next_id_;

  std::vector<int32_t> symbol_, next_, previous_, word_;  // by position
  std::vector<int64_t> weight_;                           // by word
  std::vector<Pair> pairs_;
  std::vector<int32_t> places_;  // arena; places of a pair ascend
  PairIndex pair_index_;
  std::priority_queue<Candidate, std::vector<Candidate>, Later> heap_;

  Side left_, right_;
  std::vector<Gained> gained_;
  std::vector<Place> new_places_;
};

}  // namespace

WeightedWords words_of_bytes(const PieceCounts& pieces, const StringTable& tokens) {
  int32_t byte_ids[256];
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    byte_ids[byte] = tokens.find({&text, 1});
  }
  WeightedWords words;
  for (const auto& entry : pieces.entries()) {
    for (const char c : pieces.text(entry)) words.symbols.push_back(byte_ids[static_cast<uint8_t>(c)]);
    words.lengths.push_back(entry.length);
    words.counts.push_back(entry.count);
  }
  return words;
}

std::vector<LearnedMerge> learn_merges(WeightedWords words, const MergeLimits& limits, int32_t next_id,
                                       StringTable& tokens, std::string_view prefix) {
  return MergeLearner(std::move(words), limits, next_id, tokens, prefix).run();
}

}  // namespace ondol::tokenization
