// Reference implementations for tests: each op written down from its formula in the plainest loops, for any scalar
// type. In double they are the oracle; in float they are the naive low-precision implementation whose error sets the
// tolerance.
//
//   Array<double> y = reference::softmax(x);
//
// `Round` is how an intermediate result that an op stores in the data type is rounded: not at all in the oracle.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <ondol/base/philox.h>
#include <ondol/ops/elementwise.h>
#include <ondol/ops/rope.h>
#include <ondol/tensor/tensor.h>

namespace ondol::testing {

template <class T>
struct Array {
  Shape shape;
  std::vector<T> values;

  Array() = default;
  explicit Array(const Shape& s, T fill = T(0)) : shape(s), values(static_cast<size_t>(s.numel()), fill) {}
  explicit Array(const Tensor& t) : shape(t.shape()), values(t.to_vector<T>()) {}

  T& operator[](int64_t i) { return values[static_cast<size_t>(i)]; }
  T operator[](int64_t i) const { return values[static_cast<size_t>(i)]; }
  int64_t numel() const { return shape.numel(); }
  int64_t cols() const { return shape[-1]; }
  int64_t rows() const {
    int64_t product = 1;
    for (int d = 0; d + 1 < shape.ndim(); ++d) product *= shape[d];
    return product;
  }
};

/// Rounds to the data type: to bf16 in the naive run of a bf16 case, else not at all.
struct Round {
  bool to_bf16 = false;
  template <class T>
  T operator()(T x) const {
    return to_bf16 ? static_cast<T>(static_cast<float>(bfloat16(static_cast<float>(x)))) : x;
  }
};

namespace reference {

/// Offset in `shape` of the element that broadcasting puts at flat index `flat` of `full`.
inline int64_t broadcast_offset(const Shape& shape, const Shape& full, int64_t flat) {
  int64_t offset = 0, stride = 1, rest = flat;
  for (int d = full.ndim() - 1, s = shape.ndim() - 1; d >= 0; --d, --s) {
    const int64_t index = rest % full[d];
    rest /= full[d];
    if (s < 0) continue;
    if (shape[s] != 1) offset += index * stride;
    stride *= shape[s];
  }
  return offset;
}

template <class T, class Function>
Array<T> binary(const Array<T>& a, const Array<T>& b, const Shape& out_shape, Function function) {
  Array<T> out(out_shape);
  for (int64_t i = 0; i < out.numel(); ++i) {
    out[i] = function(a[broadcast_offset(a.shape, out_shape, i)], b[broadcast_offset(b.shape, out_shape, i)]);
  }
  return out;
}

template <class T, class Function>
Array<T> map(const Array<T>& x, Function function) {
  Array<T> out(x.shape);
  for (int64_t i = 0; i < x.numel(); ++i) out[i] = function(x[i]);
  return out;
}

template <class T>
T activation(T x, Activation kind) {
  switch (kind) {
    case Activation::relu:
      return x > T(0) ? x : T(0);
    case Activation::gelu_erf:
      return x * T(0.5) * (T(1) + std::erf(x / std::sqrt(T(2))));
    case Activation::gelu_tanh: {
      const T u = T(0.79788456080286535588) * (x + T(0.044715) * x * x * x);
      return T(0.5) * x * (T(1) + std::tanh(u));
    }
    case Activation::silu:
      return x / (T(1) + std::exp(-x));
    case Activation::tanh:
      return std::tanh(x);
    case Activation::sigmoid:
      return T(1) / (T(1) + std::exp(-x));
  }
  return T(0);
}

/// combine over dimension dim, which is dropped: fold(accumulator, value) from `start`, then finish(accumulator, size).
template <class T, class Fold, class Finish>
Array<T> reduce(const Array<T>& x, int dim, T start, Fold fold, Finish finish) {
  int64_t outer = 1, inner = 1;
  std::vector<int64_t> sizes;
  for (int d = 0; d < x.shape.ndim(); ++d) {
    if (d < dim) outer *= x.shape[d];
    if (d > dim) inner *= x.shape[d];
    if (d != dim) sizes.push_back(x.shape[d]);
  }
  const int64_t size = x.shape[dim];
  Array<T> out{Shape(std::span<const int64_t>(sizes))};
  for (int64_t o = 0; o < outer; ++o) {
    for (int64_t n = 0; n < inner; ++n) {
      T accumulator = start;
      for (int64_t i = 0; i < size; ++i) accumulator = fold(accumulator, x[(o * size + i) * inner + n]);
      out[o * inner + n] = finish(accumulator, static_cast<T>(size));
    }
  }
  return out;
}

template <class T>
Array<T> sum(const Array<T>& x, int dim) {
  return reduce(
      x, dim, T(0), [](T a, T b) { return a + b; }, [](T a, T) { return a; });
}

/// log sum exp of one row.
template <class T>
T log_sum_exp(const T* row, int64_t cols) {
  T largest = -std::numeric_limits<T>::infinity();
  for (int64_t i = 0; i < cols; ++i) largest = std::max(largest, row[i]);
  T total = 0;
  for (int64_t i = 0; i < cols; ++i) total += std::exp(row[i] - largest);
  return largest + std::log(total);
}

template <class T>
Array<T> log_softmax(const Array<T>& x) {
  Array<T> out(x.shape);
  const int64_t cols = x.cols();
  for (int64_t r = 0; r < x.rows(); ++r) {
    const T lse = log_sum_exp(x.values.data() + r * cols, cols);
    for (int64_t i = 0; i < cols; ++i) out[r * cols + i] = x[r * cols + i] - lse;
  }
  return out;
}

template <class T>
Array<T> softmax(const Array<T>& x) {
  return map(log_softmax(x), [](T v) { return std::exp(v); });
}

/// Loss and log sum exp of each row.
template <class T>
std::vector<Array<T>> cross_entropy(const Array<T>& logits, const Array<T>& labels, int32_t ignore_index,
                                    double label_smoothing = 0.0) {
  const int64_t cols = logits.cols(), rows = logits.rows();
  Array<T> loss(Shape{rows}), lse(Shape{rows});
  for (int64_t r = 0; r < rows; ++r) {
    lse[r] = log_sum_exp(logits.values.data() + r * cols, cols);
    const int64_t label = static_cast<int64_t>(labels[r]);
    // Szegedy et al. 2016: cross entropy with the mixture of the target and the uniform distribution.
    for (int64_t c = 0; c < cols && label != ignore_index; ++c) {
      const double wanted = (c == label ? 1.0 - label_smoothing : 0.0) + label_smoothing / static_cast<double>(cols);
      loss[r] += T(wanted) * (lse[r] - logits[r * cols + c]);
    }
  }
  return {loss, lse};
}

template <class T>
Array<T> embedding(const Array<T>& table, const Array<T>& ids, const Shape& out_shape) {
  Array<T> out(out_shape);
  const int64_t cols = table.cols();
  for (int64_t i = 0; i < ids.numel(); ++i) {
    for (int64_t c = 0; c < cols; ++c) out[i * cols + c] = table[static_cast<int64_t>(ids[i]) * cols + c];
  }
  return out;
}

/// x (B, T, C), rows (B, P) -> (B, P, C).
template <class T>
Array<T> take_rows(const Array<T>& x, const Array<T>& rows) {
  const int64_t length = x.shape[1], hidden = x.shape[2], taken = rows.shape[1];
  Array<T> out(Shape{x.shape[0], taken, hidden});
  for (int64_t b = 0; b < x.shape[0]; ++b) {
    for (int64_t p = 0; p < taken; ++p) {
      const auto row = static_cast<int64_t>(rows[b * taken + p]);
      for (int64_t c = 0; c < hidden; ++c) out[(b * taken + p) * hidden + c] = x[(b * length + row) * hidden + c];
    }
  }
  return out;
}

/// torch.gather along dim.
template <class T>
Array<T> gather(const Array<T>& x, int dim, const Array<T>& index) {
  int64_t inner = 1;
  for (int d = dim + 1; d < x.shape.ndim(); ++d) inner *= x.shape[d];
  Array<T> out(index.shape);
  const int64_t size = index.shape[dim];
  for (int64_t i = 0; i < out.numel(); ++i) {
    const int64_t outer = i / inner / std::max<int64_t>(size, 1);
    out[i] = x[(outer * x.shape[dim] + static_cast<int64_t>(index[i])) * inner + i % inner];
  }
  return out;
}

/// target with source added at the index along dim, rounded after each addition.
template <class T>
Array<T> scatter_add(Array<T> target, int dim, const Array<T>& index, const Array<T>& source, Round round) {
  int64_t inner = 1;
  for (int d = dim + 1; d < target.shape.ndim(); ++d) inner *= target.shape[d];
  const int64_t size = index.shape[dim];
  for (int64_t i = 0; i < index.numel(); ++i) {
    const int64_t outer = i / inner / size;
    T& place = target[(outer * target.shape[dim] + static_cast<int64_t>(index[i])) * inner + i % inner];
    place = round(place + source[i]);
  }
  return target;
}

/// RMSNorm or LayerNorm of s = x + residual; weight, bias and residual may be empty. Gives out and s.
template <class T>
std::vector<Array<T>> norm(const Array<T>& x, const Array<T>* residual, const Array<T>* weight, const Array<T>* bias,
                           bool layer_norm, T eps, T weight_offset, Round round) {
  Array<T> sum = x, out(x.shape);
  const int64_t cols = x.cols();
  for (int64_t i = 0; residual != nullptr && i < x.numel(); ++i) sum[i] = round(x[i] + (*residual)[i]);
  for (int64_t r = 0; r < x.rows(); ++r) {
    const T* s = sum.values.data() + r * cols;
    T mean = 0, square = 0;
    for (int64_t i = 0; layer_norm && i < cols; ++i) mean += s[i] / static_cast<T>(cols);
    for (int64_t i = 0; i < cols; ++i) square += (s[i] - mean) * (s[i] - mean) / static_cast<T>(cols);
    for (int64_t i = 0; i < cols; ++i) {
      T y = (s[i] - mean) / std::sqrt(square + eps);
      if (weight != nullptr) y *= (*weight)[i] + weight_offset;
      if (bias != nullptr) y += (*bias)[i];
      out[r * cols + i] = y;
    }
  }
  return {out, sum};
}

/// The angle by which pair i turns at position 1, from the papers' formulas.
inline double rope_frequency(const RopeConfig& config, int64_t rotary_dim, int64_t i) {
  const double pi = 3.14159265358979323846;
  const double base = 1.0 / std::pow(config.theta, 2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim));
  if (config.type == "linear") return base / config.factor;
  if (config.type != "llama3") return base;
  const double wave_length = 2.0 * pi / base;
  const double longest = static_cast<double>(config.original_max_positions) / config.low_freq_factor;
  const double shortest = static_cast<double>(config.original_max_positions) / config.high_freq_factor;
  if (wave_length > longest) return base / config.factor;
  if (wave_length < shortest) return base;
  const double smooth = (static_cast<double>(config.original_max_positions) / wave_length - config.low_freq_factor) /
                        (config.high_freq_factor - config.low_freq_factor);
  return (1.0 - smooth) * base / config.factor + smooth * base;
}

/// The angle at a position, a product in f32 as in transformers and the code that LLaMA was published with.
inline double rope_angle(const RopeConfig& config, int64_t rotary_dim, double position, int64_t i) {
  const float frequency = static_cast<float>(rope_frequency(config, rotary_dim, i));
  return static_cast<double>(static_cast<float>(position) * frequency);
}

/// x (B, T, H, D); positions (B, T) or null for t + offset.
template <class T>
Array<T> rope(const Array<T>& x, const RopeConfig& config, const Array<T>* positions, int64_t offset, bool interleaved,
              bool inverse) {
  const int64_t length = x.shape[1], heads = x.shape[2], head_dim = x.shape[3];
  const int64_t rotary_dim = config.rotary_dim == 0 ? config.head_dim : config.rotary_dim;
  Array<T> out = x;
  for (int64_t bt = 0; bt < x.shape[0] * length; ++bt) {
    const double position =
        positions != nullptr ? static_cast<double>((*positions)[bt]) : static_cast<double>(bt % length + offset);
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t at = (bt * heads + h) * head_dim;
      for (int64_t i = 0; i < rotary_dim / 2; ++i) {
        const double angle = rope_angle(config, rotary_dim, position, i);
        const T c = static_cast<T>(std::cos(angle)), s = static_cast<T>(inverse ? -std::sin(angle) : std::sin(angle));
        const int64_t first = at + (interleaved ? 2 * i : i);
        const int64_t second = at + (interleaved ? 2 * i + 1 : i + rotary_dim / 2);
        out[first] = x[first] * c - x[second] * s;
        out[second] = x[first] * s + x[second] * c;
      }
    }
  }
  return out;
}

/// Whether dropout keeps an element: the number of the counter-based generator reaches p.
inline bool keeps(PhiloxKey key, int64_t element, float p) {
  return philox_uniform(key, static_cast<uint64_t>(element)) >= p;
}

/// (.., M, K) x (.., K, N), leading dimensions broadcast.
template <class T>
Array<T> matmul(const Array<T>& a, const Array<T>& b, const Shape& out_shape) {
  const int64_t m = a.shape[-2], k = a.shape[-1], n = b.shape[-1];
  Array<T> out(out_shape);
  Shape batch_a = a.shape, batch_b = b.shape, batch = out_shape;
  for (Shape* s : {&batch_a, &batch_b, &batch}) s->set(-1, 1), s->set(-2, 1);
  for (int64_t p = 0; p < batch.numel(); ++p) {
    const T* left = a.values.data() + broadcast_offset(batch_a, batch, p) * m * k;
    const T* right = b.values.data() + broadcast_offset(batch_b, batch, p) * k * n;
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        T total = 0;
        for (int64_t l = 0; l < k; ++l) total += left[i * k + l] * right[l * n + j];
        out[(p * m + i) * n + j] = total;
      }
    }
  }
  return out;
}

/// x w^T + bias for w (out, in); bias may be null.
template <class T>
Array<T> linear(const Array<T>& x, const Array<T>& weight, const Array<T>* bias) {
  const int64_t in = weight.shape[1], out_size = weight.shape[0];
  Shape shape = x.shape;
  shape.set(-1, out_size);
  Array<T> out(shape);
  for (int64_t r = 0; r < x.rows(); ++r) {
    for (int64_t j = 0; j < out_size; ++j) {
      T total = 0;
      for (int64_t l = 0; l < in; ++l) total += x[r * in + l] * weight[j * in + l];
      out[r * out_size + j] = bias == nullptr ? total : total + (*bias)[j];
    }
  }
  return out;
}

template <class T>
struct AttentionInputs {
  const Array<T>*q, *k, *v;
  const Array<T>* bias = nullptr;  // broadcast to (B, H, Tq, Tk)
  T scale = 0, softcap = 0;
  bool causal = false;
  int64_t window = 0;
  const Array<T>*q_start = nullptr, *kv_lengths = nullptr, *key_mask = nullptr, *documents = nullptr;
  const Array<T>* prefix_ends = nullptr;  // (B, Tq): a query sees the keys before it, too
  float dropout_p = 0;
  PhiloxKey key;
  // The weight of query i of head h of sequence b and key j is number (first_row + (b * all_heads + first_head + h) *
  // row_stride + i) * number_stride + j of the generator; 0 stands for H, Tq and Tk.
  int64_t first_row = 0, row_stride = 0, number_stride = 0, first_head = 0, all_heads = 0;
};

/// Softmax attention, all scores of a query at once. Gives out (B, Tq, H, D) and lse (B, H, Tq).
template <class T>
std::vector<Array<T>> attention(const AttentionInputs<T>& in) {
  const Array<T>&q = *in.q, &k = *in.k, &v = *in.v;
  const int64_t batch = q.shape[0], q_len = q.shape[1], heads = q.shape[2], dim = q.shape[3];
  const int64_t kv_len = k.shape[1], kv_heads = k.shape[2];
  Array<T> out(q.shape), lse(Shape{batch, heads, q_len});
  const Shape full{batch, heads, q_len, kv_len};
  std::vector<T> score(static_cast<size_t>(kv_len));
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t valid = in.kv_lengths ? static_cast<int64_t>((*in.kv_lengths)[b]) : kv_len;
    const int64_t start = in.q_start ? static_cast<int64_t>((*in.q_start)[b]) : valid - q_len;
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t kv_head = h / (heads / kv_heads);
      for (int64_t i = 0; i < q_len; ++i) {
        const int64_t position = start + i;
        for (int64_t j = 0; j < kv_len; ++j) {
          const bool in_prefix = in.prefix_ends && T(j) < (*in.prefix_ends)[b * q_len + i];
          bool seen = j < valid && (!in.causal || j <= position || in_prefix);
          if (in.window > 0) seen = seen && j > position - in.window && j < position + in.window;
          if (in.key_mask) seen = seen && (*in.key_mask)[b * kv_len + j] != T(0);
          if (in.documents) seen = seen && (*in.documents)[b * q_len + i] == (*in.documents)[b * kv_len + j];
          T dot = 0;
          for (int64_t d = 0; d < dim; ++d) {
            dot += q[((b * q_len + i) * heads + h) * dim + d] * k[((b * kv_len + j) * kv_heads + kv_head) * dim + d];
          }
          dot *= in.scale;
          if (in.softcap > T(0)) dot = in.softcap * std::tanh(dot / in.softcap);
          const int64_t element = ((b * heads + h) * q_len + i) * kv_len + j;
          if (in.bias) dot += (*in.bias)[broadcast_offset(in.bias->shape, full, element)];
          score[static_cast<size_t>(j)] = seen ? dot : -std::numeric_limits<T>::infinity();
        }
        const bool blind = std::all_of(score.begin(), score.end(), [](T s) { return std::isinf(s) && s < T(0); });
        const T total = blind ? -std::numeric_limits<T>::infinity() : log_sum_exp(score.data(), kv_len);
        lse[(b * heads + h) * q_len + i] = total;
        for (int64_t j = 0; !blind && j < kv_len; ++j) {
          T p = std::exp(score[static_cast<size_t>(j)] - total);
          if (in.dropout_p > 0) {
            const int64_t head = b * (in.all_heads != 0 ? in.all_heads : heads) + in.first_head + h;
            const int64_t row = in.first_row + head * (in.row_stride != 0 ? in.row_stride : q_len) + i;
            const int64_t element = row * (in.number_stride != 0 ? in.number_stride : kv_len) + j;
            p = keeps(in.key, element, in.dropout_p) ? p / (T(1) - static_cast<T>(in.dropout_p)) : T(0);
          }
          for (int64_t d = 0; d < dim; ++d) {
            out[((b * q_len + i) * heads + h) * dim + d] += p * v[((b * kv_len + j) * kv_heads + kv_head) * dim + d];
          }
        }
      }
    }
  }
  return {out, lse};
}

}  // namespace reference
}  // namespace ondol::testing
