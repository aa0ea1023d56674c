// Entities in sequences of labels, and how many of them were found.
//
//   metrics::EntityScores scores = metrics::entity_scores(predicted, expected);   // a list of labels for each sentence
//   scores.f1;
//
// Labels are "O", or "B-PER", "I-PER", "E-PER", "S-PER": IOB, IOB2, IOE and IOBES all work, and where a sequence breaks
// the scheme the rules of conlleval decide, which are seqeval's default ("I-PER" after "O" begins an entity). An entity
// counts when its type and both its ends are right; scores are over all sentences and types (micro average).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ondol::metrics {

struct Entity {
  std::string type;           // "PER"; "_" for labels without one ("B")
  size_t begin = 0, end = 0;  // labels [begin, end)
  bool operator==(const Entity&) const = default;
};

std::vector<Entity> find_entities(std::span<const std::string> labels);

struct EntityScores {
  double precision = 0.0, recall = 0.0, f1 = 0.0;  // 0 where they are 0 / 0
  double accuracy = 0.0;                           // of the labels
  int64_t expected = 0;                            // entities
};

/// Throws Error when the sentences differ in number or length.
EntityScores entity_scores(std::span<const std::vector<std::string>> predicted,
                           std::span<const std::vector<std::string>> expected);

}  // namespace ondol::metrics
