// Attention written out in double precision from its definition, forward and backward: the oracle of the kernels.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <ondol/base/philox.h>

namespace ondol {

struct AttentionCase {
  int64_t batch = 1, q_len = 1, kv_len = 1, num_heads = 1, num_kv_heads = 1, head_dim = 8;
  bool causal = false;
  int64_t window = 0;
  float softcap = 0.0f;
  float dropout_p = 0.0f;
  std::vector<int32_t> q_start, kv_lengths, q_documents, kv_documents;
  std::vector<int32_t> prefix_ends;  // (batch, q_len)
  std::vector<uint8_t> key_mask;
  bool bias = false;
  bool bias_per_batch = false;  // otherwise one bias (heads, q, k) for all sequences

  double scale() const { return 1.0 / std::sqrt(static_cast<double>(head_dim)); }

  bool visible(int64_t b, int64_t i, int64_t j) const {
    const int64_t length = kv_lengths.empty() ? kv_len : kv_lengths[b];
    const int64_t position = i + (q_start.empty() ? length - q_len : q_start[b]);
    if (j >= length) return false;
    const bool in_prefix = !prefix_ends.empty() && j < prefix_ends[b * q_len + i];
    if (causal && j > position && !in_prefix) return false;
    if (window > 0 && j <= position - window) return false;
    if (window > 0 && j >= position + window) return false;
    if (!key_mask.empty() && key_mask[b * kv_len + j] == 0) return false;
    if (!q_documents.empty()) {
      const int32_t of_key = kv_documents.empty() ? q_documents[b * q_len + j] : kv_documents[b * kv_len + j];
      if (q_documents[b * q_len + i] != of_key) return false;
    }
    return true;
  }
};

/// Contiguous double arrays in the layouts of the kernels; bias (batch or 1, heads, q, k).
struct AttentionTensors {
  std::vector<double> q, k, v, bias;
};

struct AttentionOracle {
  static constexpr uint64_t kSeed = 77;
  static constexpr uint32_t kStream = 3;
  static constexpr int64_t kStep = 5;

  std::vector<double> out, lse;                           // forward
  std::vector<double> grad_q, grad_k, grad_v, grad_bias;  // backward

  static void run(const AttentionCase& c, const AttentionTensors& in, AttentionOracle& result,
                  const std::vector<double>* grad_out = nullptr) {
    const int64_t h_per_kv = c.num_heads / c.num_kv_heads;
    result.out.assign(c.batch * c.q_len * c.num_heads * c.head_dim, 0.0);
    result.lse.assign(c.batch * c.num_heads * c.q_len, -std::numeric_limits<double>::infinity());
    if (grad_out != nullptr) {
      result.grad_q.assign(in.q.size(), 0.0);
      result.grad_k.assign(in.k.size(), 0.0);
      result.grad_v.assign(in.v.size(), 0.0);
      result.grad_bias.assign(c.num_heads * c.q_len * c.kv_len, 0.0);
    }
    const float keep = 1.0f / (1.0f - c.dropout_p);
    std::vector<double> score(c.kv_len), slope(c.kv_len), weight(c.kv_len), factor(c.kv_len), grad_weight(c.kv_len);
    for (int64_t b = 0; b < c.batch; ++b) {
      for (int64_t h = 0; h < c.num_heads; ++h) {
        for (int64_t i = 0; i < c.q_len; ++i) {
          const int64_t q_at = ((b * c.q_len + i) * c.num_heads + h) * c.head_dim;
          const int64_t row = (b * c.num_heads + h) * c.q_len + i;
          const auto kv_at = [&](int64_t j) {
            return ((b * c.kv_len + j) * c.num_kv_heads + h / h_per_kv) * c.head_dim;
          };
          double maximum = -std::numeric_limits<double>::infinity();
          for (int64_t j = 0; j < c.kv_len; ++j) {
            score[j] = -std::numeric_limits<double>::infinity();
            if (!c.visible(b, i, j)) continue;
            double s = 0;
            for (int64_t d = 0; d < c.head_dim; ++d) s += in.q[q_at + d] * in.k[kv_at(j) + d];
            s *= c.scale();
            slope[j] = 1.0;
            if (c.softcap > 0) {
              const double bent = std::tanh(s / c.softcap);
              slope[j] = 1.0 - bent * bent;
              s = c.softcap * bent;
            }
            if (c.bias) {
              s += in.bias[(((c.bias_per_batch ? b : 0) * c.num_heads + h) * c.q_len + i) * c.kv_len + j];
            }
            score[j] = s;
            maximum = std::max(maximum, s);
          }
          if (std::isinf(maximum)) continue;
          double sum = 0;
          for (int64_t j = 0; j < c.kv_len; ++j) sum += std::exp(score[j] - maximum);
          result.lse[row] = maximum + std::log(sum);
          for (int64_t j = 0; j < c.kv_len; ++j) {
            weight[j] = std::exp(score[j] - result.lse[row]);
            factor[j] = 1.0;
            if (c.dropout_p > 0) {
              const float u = philox_uniform({kSeed, kStream, kStep}, static_cast<uint64_t>(row * c.kv_len + j));
              factor[j] = u >= c.dropout_p ? keep : 0.0;
            }
            for (int64_t d = 0; d < c.head_dim; ++d) {
              result.out[q_at + d] += weight[j] * factor[j] * in.v[kv_at(j) + d];
            }
          }
          if (grad_out == nullptr) continue;
          double mean = 0;
          for (int64_t j = 0; j < c.kv_len; ++j) {
            double g = 0;
            for (int64_t d = 0; d < c.head_dim; ++d) g += (*grad_out)[q_at + d] * in.v[kv_at(j) + d];
            grad_weight[j] = g * factor[j];
            mean += weight[j] * grad_weight[j];
          }
          for (int64_t j = 0; j < c.kv_len; ++j) {
            if (weight[j] == 0) continue;
            const double grad_score = weight[j] * (grad_weight[j] - mean);
            result.grad_bias[(h * c.q_len + i) * c.kv_len + j] += grad_score;
            for (int64_t d = 0; d < c.head_dim; ++d) {
              result.grad_v[kv_at(j) + d] += weight[j] * factor[j] * (*grad_out)[q_at + d];
              result.grad_q[q_at + d] += grad_score * slope[j] * c.scale() * in.k[kv_at(j) + d];
              result.grad_k[kv_at(j) + d] += grad_score * slope[j] * c.scale() * in.q[q_at + d];
            }
          }
        }
      }
    }
  }
};

}  // namespace ondol
