#include <ondol/generate/beam_search.h>

#include <algorithm>
#include <cmath>

#include <ondol/generate/sampling.h>
#include <ondol/ops/reduce.h>

#include "generate/decode_step.h"
#include "generate/token_rules.h"

namespace ondol {

namespace {

// The reference marks what cannot be chosen by this addend.
constexpr double kExcluded = -1e9;

struct Candidate {
  double score = 0.0;  // sum of log-probabilities
  int32_t beam = 0;
  int32_t token = 0;
};

struct Beam {
  std::vector<int32_t> tokens;
  double score = 0.0;
};

/// The `count` best continuations of all beams, best first.
std::vector<Candidate> best_candidates(const std::vector<std::vector<float>>& log_probabilities,
                                       const std::vector<Beam>& beams, size_t count) {
  const auto better = [](const Candidate& a, const Candidate& b) {
    if (a.score != b.score) return a.score > b.score;
    return a.beam != b.beam ? a.beam < b.beam : a.token < b.token;
  };
  std::vector<Candidate> heap;  // the worst of the best so far on top
  for (size_t b = 0; b < beams.size(); ++b) {
    const std::vector<float>& row = log_probabilities[b];
    for (size_t v = 0; v < row.size(); ++v) {
      const Candidate candidate{beams[b].score + row[v], static_cast<int32_t>(b), static_cast<int32_t>(v)};
      if (heap.size() == count && !better(candidate, heap.front())) continue;
      if (heap.size() == count) {
        std::pop_heap(heap.begin(), heap.end(), better);
        heap.pop_back();
      }
      heap.push_back(candidate);
      std::push_heap(heap.begin(), heap.end(), better);
    }
  }
  std::sort(heap.begin(), heap.end(), better);
  return heap;
}

class BeamSearch {
 public:
  BeamSearch(Model& model, std::span<const int32_t> prompt, const BeamSearchOptions& options)
      : model_(model), source_(prompt), prompt_(decoder_prompt(model, prompt)), options_(options) {
    const size_t beams = static_cast<size_t>(options.num_beams);
    running_.assign(beams, {{}, kExcluded});
    running_[0].score = 0.0;
    finished_.assign(beams, {{}, kExcluded, false});
    is_finished_.assign(beams, false);
  }

  std::vector<BeamHypothesis> run() {
    KvCache cache = model_.make_cache(options_.num_beams, cached_positions());
    Decoder decoder(model_, cache);
    Tensor logits = prefill(cache, decoder);
    while (true) {
      const std::vector<Candidate> candidates = best_candidates(log_probabilities(logits), running_, kept_candidates());
      ++length_;
      const std::vector<Ending> endings = find_endings(candidates);
      finish(candidates, endings);
      const bool all_ended =
          std::all_of(endings.begin(), endings.end(), [](Ending ending) { return ending != Ending::none; });
      const std::vector<int32_t> sources = advance(candidates, endings);
      update_improvable();
      const bool complete = options_.early_stopping &&
                            std::all_of(is_finished_.begin(), is_finished_.end(), [](bool done) { return done; });
      if (!improvable_ || complete || all_ended) return finished_;
      cache.reorder(sources);
      std::vector<std::span<const int32_t>> next;
      for (const Beam& beam : running_) next.emplace_back(&beam.tokens.back(), 1);
      logits = decoder.step(next);
    }
  }

 private:
  enum class Ending : unsigned char { none, stop, length };

  int64_t cached_positions() const { return static_cast<int64_t>(prompt_.size()) + options_.max_new_tokens; }
  size_t kept_candidates() const {
    return static_cast<size_t>(options_.num_beams) * std::max<size_t>(2, 1 + options_.eos_token_ids.size());
  }

  /// The prompt is read once and its keys and values are copied to all beams; what an encoder reads they share.
  Tensor prefill(KvCache& cache, Decoder& decoder) {
    if (model_.info().head == Head::sequence_to_sequence) {
      encode_sources(model_, {source_}, cache);
      return decoder.step(std::vector<std::span<const int32_t>>(running_.size(), prompt_));
    }
    KvCache single = model_.make_cache(1, cached_positions());
    const Tensor logits = Decoder(model_, single).step({prompt_});
    const int64_t length = static_cast<int64_t>(prompt_.size());
    cache.begin_step(std::vector<int32_t>(running_.size(), static_cast<int32_t>(length)));
    const KvCache::Sizes& sizes = cache.sizes();
    const Shape shape{sizes.batch, length, sizes.kv_heads, sizes.head_dim};
    for (int64_t layer = 0; layer < sizes.layers; ++layer) {
      cache.append(layer, single.keys(layer).narrow(1, 0, length).expand(shape),
                   single.values(layer).narrow(1, 0, length).expand(shape));
    }
    cache.end_step();
    return logits.expand({sizes.batch, logits.size(1)}).contiguous();
  }

  std::vector<std::vector<float>> log_probabilities(const Tensor& logits) const {
    const Tensor scores = ops::log_softmax(logits.to(DType::f32));
    std::vector<std::vector<float>> rows;
    for (size_t b = 0; b < running_.size(); ++b) {
      rows.push_back(scores.select(0, static_cast<int64_t>(b)).to_vector<float>());
      std::vector<int32_t> ids = prompt_;
      ids.insert(ids.end(), running_[b].tokens.begin(), running_[b].tokens.end());
      apply_repetition_penalty(rows.back(), ids, options_.repetition_penalty);
      const auto read = static_cast<int64_t>(prompt_.size());
      apply_token_rules(model_.info().token_rules, {ids, read, read + options_.max_new_tokens, options_.eos_token_ids},
                        rows.back());
    }
    return rows;
  }

  std::vector<int32_t> tokens_of(const Candidate& candidate) const {
    std::vector<int32_t> tokens = running_[static_cast<size_t>(candidate.beam)].tokens;
    tokens.push_back(candidate.token);
    return tokens;
  }

  std::vector<Ending> find_endings(const std::vector<Candidate>& candidates) const {
    const std::vector<int32_t>& eos = options_.eos_token_ids;
    std::vector<Ending> endings;
    for (const Candidate& candidate : candidates) {
      const bool stop = std::find(eos.begin(), eos.end(), candidate.token) != eos.end() ||
                        (options_.stops && options_.stops(tokens_of(candidate)));
      endings.push_back(stop ? Ending::stop : length_ >= options_.max_new_tokens ? Ending::length : Ending::none);
    }
    return endings;
  }

  /// Merges the candidates that have ended into the num_beams best hypotheses.
  void finish(const std::vector<Candidate>& candidates, const std::vector<Ending>& endings) {
    struct Entry {
      BeamHypothesis hypothesis;
      bool finished;
    };
    std::vector<Entry> merged;
    const bool full = options_.early_stopping &&
                      std::all_of(is_finished_.begin(), is_finished_.end(), [](bool done) { return done; });
    for (size_t i = 0; i < finished_.size(); ++i) merged.push_back({finished_[i], is_finished_[i]});
    for (size_t i = 0; i < candidates.size(); ++i) {
      const bool ended = endings[i] != Ending::none && i < running_.size();
      double score = candidates[i].score / std::pow(static_cast<double>(length_), options_.length_penalty);
      if (full) score += kExcluded;
      if (!improvable_) score += kExcluded;
      if (!ended) score += kExcluded;
      merged.push_back({{tokens_of(candidates[i]), score, endings[i] == Ending::stop}, ended});
    }
    std::stable_sort(merged.begin(), merged.end(),
                     [](const Entry& a, const Entry& b) { return a.hypothesis.score > b.hypothesis.score; });
    for (size_t i = 0; i < finished_.size(); ++i) {
      finished_[i] = std::move(merged[i].hypothesis);
      is_finished_[i] = merged[i].finished;
    }
  }

  /// The best candidates that have not ended run on. Returns the beam each of them came from.
  std::vector<int32_t> advance(const std::vector<Candidate>& candidates, const std::vector<Ending>& endings) {
    std::vector<Candidate> order = candidates;
    for (size_t i = 0; i < order.size(); ++i) {
      if (endings[i] != Ending::none) order[i].score += kExcluded;
    }
    std::stable_sort(order.begin(), order.end(),
                     [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
    std::vector<Beam> next;
    std::vector<int32_t> sources;
    for (size_t i = 0; i < running_.size(); ++i) {
      next.push_back({tokens_of(order[i]), order[i].score});
      sources.push_back(order[i].beam);
    }
    running_ = std::move(next);
    return sources;
  }

  void update_improvable() {
    const double best = running_[0].score / std::pow(static_cast<double>(length_), options_.length_penalty);
    double worst = finished_[0].score;
    for (const BeamHypothesis& hypothesis : finished_) worst = std::min(worst, hypothesis.score);
    bool better = false;
    for (const bool finished : is_finished_) better = better || best > (finished ? worst : kExcluded);
    improvable_ = improvable_ && better;
  }

  Model& model_;
  std::span<const int32_t> source_;
  std::vector<int32_t> prompt_;  // of the decoder
  const BeamSearchOptions& options_;
  std::vector<Beam> running_;
  std::vector<BeamHypothesis> finished_;  // best first
  std::vector<bool> is_finished_;
  bool improvable_ = true;
  int64_t length_ = 0;  // new tokens so far
};

}  // namespace

std::vector<BeamHypothesis> beam_search(Model& model, std::span<const int32_t> prompt,
                                        const BeamSearchOptions& options) {
  if (options.num_beams < 1) throw UsageError(concat("num_beams must be at least 1, got ", options.num_beams));
  ONDOL_CHECK(!prompt.empty() && options.max_new_tokens > 0, "[beam_search] nothing to do: ", prompt.size(),
              " prompt tokens, ", options.max_new_tokens, " new ones");
  const size_t kept = static_cast<size_t>(options.num_beams) * std::max<size_t>(2, 1 + options.eos_token_ids.size());
  if (static_cast<int64_t>(kept) > model.info().vocab_size) {
    throw UsageError(concat(options.num_beams, " beams are too many for a vocabulary of ", model.info().vocab_size));
  }
  return BeamSearch(model, prompt, options).run();
}

}  // namespace ondol
