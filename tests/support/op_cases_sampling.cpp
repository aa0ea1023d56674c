// Cases of sampling.h: the rules in floating point, with sorting and running sums.
#include <algorithm>
#include <numeric>

#include <ondol/base/philox.h>
#include <ondol/ops/sampling.h>

#include "support/op_cases.h"

namespace ondol::testing {

namespace {

/// One row: the token, and the likelihoods that it is drawn from.
template <class T>
int64_t sample_row(std::vector<T> scores, const std::vector<int64_t>& history, const SamplingOptions& options,
                   int64_t step, T* weights) {
  std::vector<int64_t> distinct = history;
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  const T penalty = static_cast<T>(options.repetition_penalty);
  for (const int64_t id : distinct) {
    T& score = scores[static_cast<size_t>(id)];
    score = score < 0 ? score * penalty : score / penalty;
  }
  if (options.temperature == 0.0f) return std::max_element(scores.begin(), scores.end()) - scores.begin();
  for (T& score : scores) score /= static_cast<T>(options.temperature);
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  const T largest = scores[order.front()];
  const auto likelihood = [&](size_t i) { return std::exp(scores[i] - largest); };
  if (options.top_k > 0 && options.top_k < static_cast<int64_t>(order.size())) {
    const T last = scores[order[static_cast<size_t>(options.top_k - 1)]];
    std::erase_if(order, [&](size_t i) { return scores[i] < last; });
  }
  T total = 0, mass = 0;
  for (const size_t i : order) total += likelihood(i);
  for (const size_t i : order) {
    const bool wanted = options.top_p >= 1.0f || mass < static_cast<T>(options.top_p) * total;
    mass += likelihood(i);
    if (wanted && likelihood(i) >= static_cast<T>(options.min_p)) weights[i] = likelihood(i);
  }
  T kept = 0;
  for (size_t i = 0; i < scores.size(); ++i) kept += weights[i];
  const PhiloxBlock block = philox_block({.seed = options.seed}, static_cast<uint64_t>(step));
  const uint64_t bits = (static_cast<uint64_t>(block.word[0]) << 21) ^ (block.word[1] >> 11);
  T left = static_cast<T>(static_cast<double>(bits) * 0x1p-53) * kept;
  for (size_t i = 0; i < scores.size(); ++i) {
    left -= weights[i];
    if (left < 0) return static_cast<int64_t>(i);
  }
  return static_cast<int64_t>(scores.size()) - 1;
}

struct Settings {
  const char* name;
  SamplingOptions options;
};

}  // namespace

void add_sampling_cases(std::vector<OpCase>& cases, bool large) {
  const Settings list[] = {
      {"greedy", {.temperature = 0.0f}},
      {"greedy penalty", {.temperature = 0.0f, .repetition_penalty = 1.5f}},
      {"plain", {.temperature = 1.0f, .seed = 3}},
      {"cool", {.temperature = 0.4f, .seed = 4}},
      {"top k", {.temperature = 1.2f, .top_k = 7, .seed = 5}},
      {"top p", {.temperature = 0.9f, .top_p = 0.7f, .seed = 6}},
      {"min p", {.temperature = 1.1f, .min_p = 0.05f, .seed = 7}},
      {"penalty", {.temperature = 0.8f, .repetition_penalty = 1.3f, .seed = 8}},
      {"all", {.temperature = 0.7f, .top_k = 20, .top_p = 0.9f, .min_p = 0.01f, .repetition_penalty = 1.2f, .seed = 9}},
  };
  std::vector<Shape> shapes = {{1, 1}, {2, 5}, {3, 33}, {1, 300}, {2, 1500}, {0, 4}};
  if (large) shapes = {{1, 50257}, {8, 128256}};
  for (const Settings& settings : list) {
    for (const DType dtype : kDataTypes) {
      for (const Shape& shape : shapes) {
        const int64_t rows = shape[0], cols = shape[1];
        OpCase c;
        c.op = "sample";
        c.name = concat("sample ", settings.name, " ", dtype_name(dtype), " ", shape);
        c.dtype = dtype;
        std::vector<int32_t> steps, lengths;
        for (int64_t r = 0; r < rows; ++r) {
          steps.push_back(static_cast<int32_t>(17 * r + cols));
          lengths.push_back(static_cast<int32_t>(4 - r));
        }
        c.inputs = {{.shape = shape, .dtype = dtype, .scale = 2.0},
                    {.shape = {rows}, .dtype = DType::i64, .fill = Fill::given, .given = steps},
                    {.shape = {rows, 4}, .dtype = DType::i32, .fill = Fill::uniform_ids, .limit = cols},
                    {.shape = {rows}, .dtype = DType::i32, .fill = Fill::given, .given = lengths}};
        const SamplingOptions options = settings.options;
        c.run = [options](const std::vector<Tensor>& in, bool) {
          Tensor weights;
          ops::SampleInputs inputs{.steps = in[1], .history = in[2], .history_lengths = in[3]};
          if (options.temperature > 0.0f) inputs.weights = &weights;
          OpResult result{{ops::sample(in[0], options, inputs)}, {}};
          if (inputs.weights != nullptr) result.outputs.push_back(weights);
          return result;
        };
        set_reference(c, [options, rows, cols]<class T>(const std::vector<Array<T>>& in, Round) {
          Array<T> tokens(Shape{rows}), weights(in[0].shape);
          for (int64_t r = 0; r < rows; ++r) {
            std::vector<int64_t> history;
            for (int64_t i = 0; i < static_cast<int64_t>(in[3][r]); ++i) {
              history.push_back(static_cast<int64_t>(in[2][4 * r + i]));
            }
            const auto begin = in[0].values.begin() + r * cols;
            tokens[r] = static_cast<T>(sample_row(std::vector<T>(begin, begin + cols), history, options,
                                                  static_cast<int64_t>(in[1][r]), weights.values.data() + r * cols));
          }
          if (options.temperature == 0.0f) return std::vector<Array<T>>{tokens};
          return std::vector<Array<T>>{tokens, weights};
        });
        cases.push_back(std::move(c));
      }
    }
  }
}

}  // namespace ondol::testing
