#include "data/sentence_pairs.h"

#include <algorithm>
#include <limits>

#include <ondol/base/error.h>

#include "base/sample_draws.h"

namespace ondol::detail {

namespace {

constexpr uint32_t kPlanStream = 0x0da7b000, kTruncationStream = 0x0da7b001;
constexpr int64_t kFrame = 3;  // [CLS] A [SEP] B [SEP]

/// Draws of a numbered thing in an epoch.
SampleDraws draws_of(uint64_t seed, uint32_t stream, int64_t epoch, int64_t number) {
  return {seed, stream, (epoch << 32) + number};
}

/// The pairs of one document, appended to a plan.
class DocumentPairs {
 public:
  DocumentPairs(const SentenceCorpus& corpus, const PairSettings& settings, int64_t epoch, int64_t document)
      : corpus_(corpus),
        settings_(settings),
        document_(document),
        draws_(draws_of(settings.seed, kPlanStream, epoch, document)) {}

  void add_to(std::vector<SentencePair>& plan) {
    const int64_t longest = settings_.sequence_length - kFrame, sentences = corpus_.sentences(document_);
    const bool is_short = static_cast<double>(draws_.uniform()) < settings_.pairs.short_fraction;
    target_ = is_short ? 2 + draws_.below(longest - 1) : longest;
    const bool order = settings_.pairs.task == SentencePairSettings::sentence_order;
    int64_t first = 0, length = 0;
    for (int64_t next = 0; next < sentences;) {
      length += corpus_.length(document_, next++);
      const int64_t count = next - first;
      const bool full = length >= target_ && (!order || count > 1);
      if (!full && next < sentences) continue;
      next -= order ? add_ordered(first, count, plan) : add_next(first, count, plan);
      first = next;
      length = 0;
    }
  }

 private:
  Segment segment(int64_t document, int64_t first, int64_t count) const {
    return {static_cast<uint32_t>(document), static_cast<uint32_t>(first), static_cast<uint32_t>(count)};
  }
  int64_t length_of(const Segment& s) const {
    int64_t length = 0;
    for (uint32_t i = 0; i < s.count; ++i) length += corpus_.length(s.document, int64_t{s.first} + i);
    return length;
  }
  /// Sentences without tokens make no segment.
  void add(const SentencePair& pair, std::vector<SentencePair>& plan) const {
    if (length_of(pair.a) > 0 && length_of(pair.b) > 0) plan.push_back(pair);
  }

  /// Returns how many of the sentences go back.
  int64_t add_next(int64_t first, int64_t count, std::vector<SentencePair>& plan) {
    SentencePair pair;
    pair.a = segment(document_, first, count > 1 ? 1 + draws_.below(count - 1) : 1);
    pair.changed = count == 1 || static_cast<double>(draws_.uniform()) < 0.5;
    if (!pair.changed) {
      pair.b = segment(document_, first + pair.a.count, count - pair.a.count);
      add(pair, plan);
      return 0;
    }
    int64_t other = draws_.below(corpus_.documents() - 1);
    other += other >= document_;
    const int64_t start = draws_.below(corpus_.sentences(other)), wanted = target_ - length_of(pair.a);
    pair.b = segment(other, start, 0);
    for (int64_t length = 0; start + pair.b.count < corpus_.sentences(other);) {
      length += corpus_.length(other, start + pair.b.count++);
      if (length >= wanted) break;
    }
    add(pair, plan);
    return count - pair.a.count;
  }

  int64_t add_ordered(int64_t first, int64_t count, std::vector<SentencePair>& plan) {
    if (count < 2) return 0;
    const int64_t cut = 1 + draws_.below(count - 1);
    SentencePair pair{segment(document_, first, cut), segment(document_, first + cut, count - cut),
                      static_cast<double>(draws_.uniform()) < 0.5};
    if (pair.changed) std::swap(pair.a, pair.b);
    add(pair, plan);
    return 0;
  }

  const SentenceCorpus& corpus_;
  const PairSettings& settings_;
  int64_t document_, target_ = 0;
  SampleDraws draws_;
};

/// Tokens [begin, end) of a segment that stay.
struct Kept {
  size_t begin = 0, end = 0;
  size_t length() const { return end - begin; }
};

void truncate(Kept& a, Kept& b, size_t longest, SampleDraws& draws) {
  while (a.length() + b.length() > longest) {
    Kept& longer = a.length() > b.length() ? a : b;
    if (static_cast<double>(draws.uniform()) < 0.5) {
      ++longer.begin;
    } else {
      --longer.end;
    }
  }
}

class PairSource final : public SampleSource {
 public:
  PairSource(SentenceCorpus corpus, const PairSettings& settings) : corpus_(std::move(corpus)), settings_(settings) {
    plan_ = plan_pairs(corpus_, settings_, 0);
    size_ = static_cast<int64_t>(plan_.size());
  }

  int64_t size() const override { return size_; }
  bool changes_each_epoch() const override { return true; }

  Batch allocate(int64_t rows, const RowLengths&) const override {
    const Shape shape{rows, settings_.sequence_length};
    Batch batch;
    batch.input_ids = Tensor::empty(shape, DType::i32);
    batch.attention_mask = Tensor::empty(shape, DType::u8);
    batch.others.emplace_back("token_type_ids", Tensor::empty(shape, DType::i32));
    batch.others.emplace_back("next_sentence_label", Tensor::empty({rows}, DType::i32));
    return batch;
  }

  void read(int64_t index, Batch& batch, int64_t row) const override {
    const int64_t epoch = settings_.pairs.same_each_epoch ? 0 : index / size_, sample = index % size_;
    if (epoch != epoch_) {
      plan_ = plan_pairs(corpus_, settings_, epoch);
      epoch_ = epoch;
    }
    const auto place = static_cast<uint64_t>(sample) * plan_.size() / static_cast<uint64_t>(size_);
    const SentencePair& pair = plan_[place];
    SampleDraws draws = draws_of(settings_.seed, kTruncationStream, epoch, static_cast<int64_t>(place));
    std::vector<int32_t> a, b;
    corpus_.read(pair.a.document, pair.a.first, int64_t{pair.a.first} + pair.a.count, a);
    corpus_.read(pair.b.document, pair.b.first, int64_t{pair.b.first} + pair.b.count, b);
    Kept from_a{0, a.size()}, from_b{0, b.size()};
    truncate(from_a, from_b, static_cast<size_t>(settings_.sequence_length - kFrame), draws);

    const auto length = static_cast<size_t>(settings_.sequence_length), first = length * static_cast<size_t>(row);
    int32_t* const ids = batch.input_ids.data<int32_t>() + first;
    int32_t* const types = batch.others[0].second.data<int32_t>() + first;
    uint8_t* const mask = batch.attention_mask.data<uint8_t>() + first;
    std::fill_n(ids, length, settings_.pad_id);
    std::fill_n(types, length, 0);
    std::fill_n(mask, length, uint8_t{0});
    int32_t* next = ids;
    *next++ = settings_.cls_id;
    next = std::copy(a.begin() + static_cast<ptrdiff_t>(from_a.begin), a.begin() + static_cast<ptrdiff_t>(from_a.end),
                     next);
    *next++ = settings_.sep_id;
    const auto second = next - ids;
    next = std::copy(b.begin() + static_cast<ptrdiff_t>(from_b.begin), b.begin() + static_cast<ptrdiff_t>(from_b.end),
                     next);
    *next++ = settings_.sep_id;
    std::fill(types + second, types + (next - ids), 1);
    std::fill_n(mask, next - ids, uint8_t{1});
    batch.others[1].second.data<int32_t>()[row] = pair.changed;
  }

  std::string layout() const override { return "sentence pairs"; }

  std::string describe() const override {
    return concat(corpus_.documents(), " documents, ", corpus_.count_sentences(), " sentences, ", size_,
                  " pairs of at most ", settings_.sequence_length, " tokens");
  }

 private:
  SentenceCorpus corpus_;
  PairSettings settings_;
  int64_t size_ = 0;
  mutable std::vector<SentencePair> plan_;  // of the epoch that was read last
  mutable int64_t epoch_ = 0;
};

}  // namespace

std::vector<SentencePair> plan_pairs(const SentenceCorpus& corpus, const PairSettings& settings, int64_t epoch) {
  std::vector<SentencePair> plan;
  for (int64_t d = 0; d < corpus.documents(); ++d) DocumentPairs(corpus, settings, epoch, d).add_to(plan);
  return plan;
}

std::unique_ptr<SampleSource> make_pair_source(SentenceCorpus corpus, const PairSettings& settings) {
  if (settings.sequence_length < kFrame + 2) {
    throw UsageError(
        concat("data.sequence_length is ", settings.sequence_length, ", a pair of sentences needs ", kFrame + 2));
  }
  if (corpus.documents() > std::numeric_limits<uint32_t>::max()) {
    throw UsageError(concat("sentence pairs of ", corpus.documents(), " documents: too many (data)"));
  }
  if (settings.pairs.task == SentencePairSettings::next_sentence && corpus.documents() == 1) {
    throw UsageError("next-sentence pairs need two documents at least (data)",
                     "documents of a text file are told apart by data.document_separator");
  }
  return std::make_unique<PairSource>(std::move(corpus), settings);
}

}  // namespace ondol::detail
