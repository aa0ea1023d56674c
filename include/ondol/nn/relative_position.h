// Relative position buckets of T5 (Raffel et al. 2020, section 2.1): the distance of a key from a query chooses one of
// a few learned biases. Near distances have a bucket each, farther ones share buckets that grow as the logarithm, and
// all beyond max_distance share the last.
//
//   RelativePositions positions({.bidirectional = true, .num_buckets = 32, .max_distance = 128});
//   const auto row = positions.row(T - 1, T - 1, device);         // all distances within T tokens
//   Variable bias = functions::relative_bias(table, row.buckets);  // (H, 2 T - 1), for all layers of a stack
//   options.relative_origin = row.origin;
#pragma once

#include <cstdint>
#include <deque>

#include <ondol/tensor/tensor.h>

namespace ondol {

struct RelativeBuckets {
  bool bidirectional = true;  // half of the buckets for keys behind the query; otherwise those share bucket 0
  int64_t num_buckets = 32;   // at least 2 for each direction
  int64_t max_distance = 128;
};

/// The bucket, in [0, num_buckets), of a key that stands `distance` positions behind the query (negative: before it).
int32_t relative_position_bucket(int64_t distance, const RelativeBuckets& settings);

/// Buckets of distances, which grow as they are needed.
class RelativePositions {
 public:
  explicit RelativePositions(const RelativeBuckets& settings) : settings_(settings) {}

  struct Row {
    Tensor buckets;  // (before + 1 + after) i32, on the device
    int64_t origin;  // where distance 0 stands: before
  };
  /// For keys from `before` positions before the query to `after` behind it. Rows stay where they are as long as this
  /// lives, so that a captured step may read them.
  Row row(int64_t before, int64_t after, Device device);

 private:
  RelativeBuckets settings_;
  std::deque<Tensor> tables_;  // of growing reach, all kept; the distances -reach ... reach
};

}  // namespace ondol
