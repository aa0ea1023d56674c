// Cases of distillation.h and of the tokens that linear_cross_entropy draws.
#include <numeric>

#include <ondol/base/philox.h>
#include <ondol/ops/distillation.h>

#include "support/op_cases.h"

namespace ondol::testing {

namespace {

struct StudentCase {
  int64_t rows, vocab, hidden, teacher_hidden, chunk;
};

struct StudentSettings {
  float temperature, label_mix;
  bool bias, some_ignored;
  int64_t kept;  // tokens that are known of the teacher's distribution; 0: its logits are
};

std::vector<int32_t> labels_for(int64_t rows, int64_t limit, bool some_ignored) {
  std::vector<int32_t> labels;
  for (int64_t r = 0; r < rows; ++r) {
    labels.push_back(some_ignored && r % 3 != 1 ? kIgnoreIndex : static_cast<int32_t>((r * 7 + 3) % limit));
  }
  return labels;
}

/// `kept` different tokens for each row.
std::vector<int32_t> tokens_for(int64_t rows, int64_t limit, int64_t kept) {
  std::vector<int32_t> tokens;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = 0; k < kept; ++k) tokens.push_back(static_cast<int32_t>((r * 5 + 2 + k) % limit));
  }
  return tokens;
}

/// Soft and hard loss of one row; `teacher` holds probabilities (< 0: of the rest) at the temperature.
template <class T>
std::pair<T, T> student_losses(const T* logits, const std::vector<T>& teacher, T rest, int64_t label,
                               const StudentSettings& s) {
  const int64_t cols = static_cast<int64_t>(teacher.size());
  const T temperature = static_cast<T>(s.temperature), mix = static_cast<T>(s.label_mix);
  std::vector<T> scaled(logits, logits + cols);
  for (T& value : scaled) value /= temperature;
  const T lse = reference::log_sum_exp(scaled.data(), cols), plain_lse = reference::log_sum_exp(logits, cols);
  T soft = 0, others = 0;
  int64_t top = 0;
  for (int64_t v = 0; v < cols; ++v) {
    const T p = teacher[static_cast<size_t>(v)], log_q = scaled[static_cast<size_t>(v)] - lse;
    if (p > teacher[static_cast<size_t>(top)]) top = v;
    if (p > 0) soft += p * (std::log(p) - log_q);
    if (p < 0) others += std::exp(log_q);
  }
  if (rest > 0 && others > 0) soft += rest * (std::log(rest) - std::log(others));
  return {temperature * temperature * soft, plain_lse - (1 - mix) * logits[label] - mix * logits[top]};
}

OpCase student_case(const StudentCase& size, const StudentSettings& s, DType dtype) {
  OpCase c;
  c.op = "linear_distillation";
  c.name = concat("linear_distillation ", dtype_name(dtype), " ", size.rows, "x", size.vocab, "x", size.hidden, "x",
                  size.teacher_hidden, " chunk ", size.chunk, " temperature ", s.temperature, " mix ", s.label_mix,
                  s.bias ? " bias" : "", s.some_ignored ? " ignored" : "", s.kept > 0 ? " kept" : "");
  c.dtype = dtype;
  const int64_t kept = std::min(s.kept, size.vocab);
  c.inputs = {{.shape = {size.rows, size.hidden}, .dtype = dtype, .differentiable = true},
              {.shape = {size.vocab, size.hidden}, .dtype = dtype, .differentiable = true},
              {.shape = {size.rows},
               .dtype = DType::i32,
               .fill = Fill::given,
               .given = labels_for(size.rows, size.vocab, s.some_ignored)}};
  if (kept > 0) {
    c.inputs.push_back({.shape = {size.rows, kept},
                        .dtype = DType::i32,
                        .fill = Fill::given,
                        .given = tokens_for(size.rows, size.vocab, kept)});
    c.inputs.push_back({.shape = {size.rows, kept + 1}, .dtype = DType::f32, .fill = Fill::positive});
  } else {
    c.inputs.push_back({.shape = {size.rows, size.teacher_hidden}, .dtype = dtype});
    c.inputs.push_back({.shape = {size.vocab, size.teacher_hidden}, .dtype = dtype});
  }
  if (s.bias) {
    c.inputs.push_back({.shape = {size.vocab}, .dtype = dtype, .differentiable = true});
    c.inputs.push_back({.shape = {size.vocab}, .dtype = dtype});
  }
  // The likelihoods of the tokens kept and, last, of the rest: the fill's numbers over their sum.
  const auto shares = [kept, vocab = size.vocab](const auto& weights, int64_t row) {
    using T = std::decay_t<decltype(weights[0])>;
    std::vector<T> out;
    for (int64_t k = 0; k <= kept; ++k)
      out.push_back(kept == vocab && k == kept ? T(0) : weights[row * (kept + 1) + k]);
    const T total = std::accumulate(out.begin(), out.end(), T(0));
    for (T& share : out) share /= total;
    return out;
  };
  c.run = [=](const std::vector<Tensor>& in, bool gradients) {
    ops::TeacherScores teacher;
    if (kept > 0) {
      const Array<double> weights(in[4]);
      std::vector<float> probabilities, rest;
      for (int64_t r = 0; r < size.rows; ++r) {
        const std::vector<double> row = shares(weights, r);
        for (int64_t k = 0; k < kept; ++k) probabilities.push_back(static_cast<float>(row[static_cast<size_t>(k)]));
        rest.push_back(static_cast<float>(row.back()));
      }
      teacher.tokens = in[3];
      teacher.probabilities = Tensor::from_vector(probabilities, {size.rows, kept}, in[0].device());
      teacher.rest = Tensor::from_vector(rest, {size.rows}, in[0].device());
    } else {
      teacher = {.hidden = in[3], .weight = in[4], .bias = s.bias ? in[6] : Tensor()};
    }
    const ops::DistillationTerms terms{.temperature = s.temperature,
                                       .label_mix = s.label_mix,
                                       .soft_scale = 0.25f,
                                       .hard_scale = {0.5, Tensor::full({1}, 0.75, DType::f32, in[0].device())}};
    const auto r = ops::linear_distillation(
        in[0], in[1], in[2], teacher,
        {.terms = terms,
         .projection = {.bias = s.bias ? in[5] : Tensor(), .gradients = gradients, .chunk_rows = size.chunk}});
    return OpResult{{r.soft, r.hard}, [r](const std::vector<Tensor>&) {
                      std::vector<Tensor> grads = {r.grad_hidden, r.grad_weight};
                      if (r.grad_bias.defined()) grads.push_back(r.grad_bias);
                      return grads;
                    }};
  };
  set_reference(c, [=]<class T>(const std::vector<Array<T>>& in, Round) {
    const Array<T> logits = reference::linear(in[0], in[1], s.bias ? &in[5] : nullptr);
    Array<T> teacher;
    if (kept == 0) {
      teacher = reference::linear(in[3], in[4], s.bias ? &in[6] : nullptr);
      teacher = reference::softmax(reference::map(teacher, [&](T z) { return z / static_cast<T>(s.temperature); }));
    }
    Array<T> soft(Shape{}), hard(Shape{});
    for (int64_t r = 0; r < size.rows; ++r) {
      const int64_t label = static_cast<int64_t>(in[2][r]);
      if (label == kIgnoreIndex) continue;
      std::vector<T> row(static_cast<size_t>(size.vocab), T(-1));
      T rest = 0;
      if (kept > 0) {
        const std::vector<T> likelihoods = shares(in[4], r);
        for (int64_t k = 0; k < kept; ++k) {
          row[static_cast<size_t>(in[3][r * kept + k])] = likelihoods[static_cast<size_t>(k)];
        }
        rest = likelihoods.back();
      } else {
        row.assign(teacher.values.begin() + r * size.vocab, teacher.values.begin() + (r + 1) * size.vocab);
      }
      const auto [soft_row, hard_row] = student_losses(logits.values.data() + r * size.vocab, row, rest, label, s);
      soft[0] += T(0.25) * soft_row;
      hard[0] += T(0.375) * hard_row;
    }
    return std::vector<Array<T>>{soft, hard};
  });
  c.grad_outputs = 2;
  c.unit_gradient = true;
  c.flops = static_cast<double>(size.rows * size.vocab) *
            (6.0 * static_cast<double>(size.hidden) + 2.0 * static_cast<double>(size.teacher_hidden));
  return c;
}

struct DrawCase {
  int64_t samples, length, vocab, hidden, chunk;
  bool some_ignored, some_places;
};

/// Which token each row draws, and whether it is another than the label.
OpCase draw_case(const DrawCase& size, DType dtype) {
  OpCase c;
  c.op = "replace_tokens";
  c.name = concat("replace_tokens ", dtype_name(dtype), " ", size.samples, "x", size.length, "x", size.vocab, " chunk ",
                  size.chunk, size.some_ignored ? " ignored" : "", size.some_places ? " places" : "");
  c.dtype = dtype;
  const int64_t places = size.samples * size.length, step = size.some_places ? 2 : 1;
  const int64_t row_count = (size.length + step - 1) / step, rows = size.samples * row_count;
  std::vector<int32_t> samples, positions;
  for (int64_t b = 0; b < size.samples; ++b) samples.push_back(static_cast<int32_t>(1000 + 3 * b));
  for (int64_t r = 0; r < rows; ++r) positions.push_back(static_cast<int32_t>(r % row_count * step));
  c.inputs = {{.shape = {rows, size.hidden}, .dtype = dtype},
              {.shape = {size.vocab, size.hidden}, .dtype = dtype},
              {.shape = {rows},
               .dtype = DType::i32,
               .fill = Fill::given,
               .given = labels_for(rows, size.vocab, size.some_ignored)},
              {.shape = {size.samples}, .dtype = DType::i64, .fill = Fill::given, .given = samples},
              {.shape = {size.samples, row_count}, .dtype = DType::i32, .fill = Fill::given, .given = positions}};
  const uint64_t seed = 0x123456789abcdefu;
  const uint32_t stream = 77;
  const float temperature = 0.8f;
  c.run = [=](const std::vector<Tensor>& in, bool) {
    ops::TokenDraw draw{.seed = seed, .stream = stream, .samples = in[3], .length = size.length};
    draw.positions = size.some_places ? in[4] : Tensor();
    draw.temperature = temperature;
    draw.tokens = Tensor::full({places}, -5, DType::i32, in[0].device());
    draw.replaced = Tensor::full({places}, -6, DType::i32, in[0].device());
    ops::linear_cross_entropy(in[0], in[1], in[2], {.draw = &draw, .projection = {.chunk_rows = size.chunk}});
    return OpResult{{draw.tokens, draw.replaced}, {}};
  };
  set_reference(c, [=]<class T>(const std::vector<Array<T>>& in, Round) {
    const Array<T> logits = reference::linear(in[0], in[1], static_cast<const Array<T>*>(nullptr));
    Array<T> tokens(Shape{places}, T(-5)), replaced(Shape{places}, T(-6));
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t label = static_cast<int64_t>(in[2][r]);
      const int64_t b = r / row_count, t = r % row_count * step, place = b * size.length + t;
      if (label == kIgnoreIndex) continue;
      const PhiloxKey key{seed, stream, static_cast<uint32_t>(in[3][b])};
      const int64_t first = t * ((size.vocab + 3) / 4) * 4;
      T best = -std::numeric_limits<T>::infinity();
      int64_t at = 0;
      for (int64_t v = 0; v < size.vocab; ++v) {
        const T uniform = static_cast<T>(philox_uniform(key, static_cast<uint64_t>(first + v)));
        const T score = logits[r * size.vocab + v] / static_cast<T>(temperature) - std::log(-std::log(uniform));
        if (score > best) at = v;
        best = std::max(best, score);
      }
      tokens[place] = static_cast<T>(at);
      replaced[place] = at == label ? T(0) : T(1);
    }
    return std::vector<Array<T>>{tokens, replaced};
  });
  return c;
}

}  // namespace

void add_distillation_cases(std::vector<OpCase>& cases, bool large) {
  std::vector<StudentCase> sizes = {{1, 1, 1, 1, 0},      {7, 13, 5, 9, 0},     {12, 33, 17, 4, 5}, {40, 65, 32, 8, 16},
                                    {65, 129, 9, 33, 32}, {3, 1000, 24, 24, 2}, {0, 9, 4, 3, 0},    {6, 64, 8, 8, 0}};
  if (large) sizes = {{2048, 8192, 384, 768, 0}, {2048, 32768, 384, 768, 0}};
  std::vector<StudentSettings> settings = {{1.0f, 0.0f, false, false, 0}, {2.0f, 0.0f, true, true, 0},
                                           {2.0f, 0.9f, false, true, 0},  {4.0f, 0.5f, true, false, 0},
                                           {2.0f, 0.0f, false, false, 5}, {1.0f, 0.9f, true, true, 5}};
  if (large) settings = {{2.0f, 0.0f, false, false, 0}};
  for (const DType dtype : kDataTypes) {
    for (const StudentCase& size : sizes) {
      for (const StudentSettings& s : settings) cases.push_back(student_case(size, s, dtype));
    }
    if (large) {
      cases.push_back(draw_case({32, 128, 32768, 128, 0, false, false}, dtype));
      continue;
    }
    for (const bool some_ignored : {false, true}) {
      for (const bool some_places : {false, true}) {
        for (const DrawCase& size : {DrawCase{1, 1, 1, 1, 0, false, false},
                                     {3, 5, 7, 4, 2, false, false},
                                     {2, 9, 130, 8, 0, false, false},
                                     {4, 6, 1001, 5, 7, false, false},
                                     {1, 3, 5000, 3, 0, false, false},
                                     {0, 4, 6, 2, 0, false, false}}) {
          DrawCase one = size;
          one.some_ignored = some_ignored;
          one.some_places = some_places;
          cases.push_back(draw_case(one, dtype));
        }
      }
    }
  }
}

}  // namespace ondol::testing
