// Pairs of segments for the tasks of BERT (Devlin et al. 2019: is B what follows A?) and ALBERT (Lan et al. 2020: do A
// and B stand in their order?), sampled as the papers' code does (create_pretraining_data.py):
//
//   - sentences of a document are collected until they fill the target length: that of the sample, or for
//   short_fraction
//     of the documents a random one;
//   - they are cut into A and B between two sentences at random;
//   - next_sentence: with probability 1/2, and always when there is but one sentence, B comes from a random place of
//     another document instead, and what was to be B is collected again;
//   - sentence_order: with probability 1/2 A and B change places. One sentence is no pair: the next one is taken along,
//     a last one left out;
//   - while both are too long, the longer one loses a token in front or behind, with probability 1/2 each.
//
//   [CLS] A [SEP] B [SEP]      token_type_ids 0 … 0 1 … 1; next_sentence_label 1: random, or swapped
//
// An epoch is planned from the lengths of the sentences alone, with draws of (seed, epoch, document): nothing but the
// epoch's number is needed to go on at any sample.
#pragma once

#include <memory>

#include <ondol/data/data_loader.h>

#include "data/sentence_corpus.h"

namespace ondol::detail {

struct PairSettings {
  SentencePairSettings pairs;
  int64_t sequence_length = 0;
  uint64_t seed = 0;
  int32_t cls_id = 0, sep_id = 0, pad_id = 0;
};

/// Sentences [first, first + count) of a document.
struct Segment {
  uint32_t document = 0, first = 0, count = 0;
};
struct SentencePair {
  Segment a, b;
  bool changed = false;  // b is random, or a and b are swapped
};

/// The pairs of an epoch, in the order of the documents.
std::vector<SentencePair> plan_pairs(const SentenceCorpus& corpus, const PairSettings& settings, int64_t epoch);

/// As many samples each epoch as the first one has pairs; should a later plan have more or fewer, some of its pairs,
/// evenly spread, are left out or taken twice. Throws UsageError when no pair can be made.
std::unique_ptr<SampleSource> make_pair_source(SentenceCorpus corpus, const PairSettings& settings);

}  // namespace ondol::detail
