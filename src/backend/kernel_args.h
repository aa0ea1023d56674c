// Plain-data arguments of the kernel rows. Every backend gets exactly these; checking shapes is the caller's work
// (ops/).
//
// Conventions: sizes and strides count elements; `rows x cols` data has contiguous columns and a row stride where one
// is given; "data type" means the dtype under which the row is looked up (f32 or bf16). Statistics, gradients of
// weights and losses are always f32. Token ids, labels, positions and document ids are i32. Nullable pointers say so.
// Values that change every step (learning rate, step number, ...) come by pointer, because a captured graph replays
// the same arguments.
//
// Legend: B batch, T sequence length, H heads, D head_dim, C hidden size, V vocabulary.
#pragma once

#include <cstdint>

#include <ondol/base/dtype.h>
#include <ondol/base/quantized_blocks.h>

namespace ondol {

inline constexpr int kMaxDims = 6;

struct FillArgs {
  void* out;
  int64_t count;
  double value;
};

/// Strided copy with conversion; shape and strides have `ndim` entries. Looked up under the input's dtype (any dtype).
struct CopyArgs {
  const void* in;
  void* out;
  DType in_dtype, out_dtype;
  int ndim;
  int64_t shape[kMaxDims];
  int64_t in_stride[kMaxDims];
  int64_t out_stride[kMaxDims];
};

enum class BinaryKind : int { add, sub, mul, div };

/// out = a (kind) b with broadcasting (stride 0); out is contiguous and may be a or b themselves.
struct BinaryArgs {
  const void *a, *b;
  void* out;
  BinaryKind kind;
  int ndim;
  int64_t shape[kMaxDims];
  int64_t a_stride[kMaxDims];
  int64_t b_stride[kMaxDims];
};

enum class UnaryKind : int {
  relu,
  gelu_erf,
  gelu_tanh,
  silu,
  tanh,
  sigmoid,
  exp,
  log,
  sqrt,
  square,
  scale,
  add_scalar
};

/// out = f(in), contiguous. `parameter` is the factor of `scale` and the addend of `add_scalar`. in may be out.
struct UnaryArgs {
  const void* in;
  void* out;
  int64_t count;
  UnaryKind kind;
  float parameter;
};

/// grad_in = grad_out * f'(in), contiguous. grad_in may be grad_out or in. With grad_bias, in is (count / cols, cols)
/// and grad_bias receives the sum of grad_in over its rows, taken before grad_in is rounded, in an order fixed by the
/// shape.
struct UnaryBackwardArgs {
  const void* grad_out;
  const void* in;
  void* grad_in;
  int64_t count;
  UnaryKind kind;
  float parameter;
  float* grad_bias = nullptr;  // nullable, (cols)
  int64_t cols = 0;
  bool accumulate = false;  // grad_bias is added to
};

enum class ReduceKind : int { sum, mean, max };

/// in (outer, reduced, inner) contiguous -> out (outer, inner) of out_dtype (data type or f32).
/// accumulate: out += result (f32 only). Sums run in a fixed order in f32.
struct ReduceArgs {
  const void* in;
  void* out;
  DType out_dtype;
  int64_t outer, reduced, inner;
  ReduceKind kind;
  bool accumulate;
};

/// out[r, :] = softmax(in[r, :]) or log_softmax; contiguous rows. in may be out.
struct SoftmaxArgs {
  const void* in;
  void* out;
  int64_t rows, cols;
  bool log;
};

/// out is the forward's result.
struct SoftmaxBackwardArgs {
  const void* grad_out;
  const void* out;
  void* grad_in;
  int64_t rows, cols;
  bool log;
};

/// loss[r] = lse[r] - (1 - label_smoothing) logits[r, label[r]] - label_smoothing mean(logits[r, :]), 0 where label is
/// ignore_index; lse[r] = logsumexp(logits[r, :]) always.
struct CrossEntropyArgs {
  const void* logits;
  int64_t rows, cols, row_stride;
  const int32_t* labels;
  int32_t ignore_index;
  float* loss;
  float* lse;
  float label_smoothing = 0.0f;
};

/// grad_logits = (softmax - (1 - label_smoothing) one_hot - label_smoothing / cols) * scale * (*grad_scale, 1 when
/// null); rows with ignore_index become 0. grad_logits may be logits; row strides of both as given.
struct CrossEntropyBackwardArgs {
  const void* logits;
  int64_t rows, cols, row_stride;
  const int32_t* labels;
  int32_t ignore_index;
  const float* lse;
  float scale;
  const float* grad_scale;  // nullable
  void* grad_logits;
  int64_t grad_row_stride;
  float label_smoothing = 0.0f;
};

/// Rows of a teacher's and a student's logits (both contiguous). With p = softmax(teacher / T), q = softmax(student /
/// T):
///   soft[r] = T^2 sum_v p (log p - log q)
///   hard[r] = log sum exp(student) - (1 - mix) student[label] - mix student[argmax teacher]
/// and with gradients the student's logits become
///   soft_scale T (q - p) + hard_scale (softmax(student) - (1 - mix) one_hot(label) - mix one_hot(argmax teacher));
/// all of it 0 where the label is ignore_index. The scales are multiplied by *soft_factor and *hard_factor.
/// With `rest` the teacher's rows are not logits but probabilities at T of some tokens and 0 for all others, which are
/// one class of probability rest[r]: soft[r] = T^2 (sum over p > 0 of p (log p - log q) + rest (log rest - log sum q of
/// the others)).
struct DistillationArgs {
  const float* teacher;
  float* student;
  int64_t rows, cols;
  const int32_t* labels;
  int32_t ignore_index;
  const float* rest;  // (rows), nullable
  float temperature, label_mix;
  float soft_scale, hard_scale;
  const float* soft_factor;  // nullable
  const float* hard_factor;  // nullable
  bool gradients;
  float* soft;
  float* hard;
};

/// For rows r whose label is not ignore_index: a draw from softmax(logits[r, :] / temperature) by Gumbel's maximum,
///   v* = argmax_v logits[r, v] / temperature - log(-log u_v),
/// goes to tokens[b length + t], and v* != labels[r] (0 or 1) to replaced[b length + t]. Row r is row n = kept[r]
/// (first_row + r when null) of all, which belong to samples one after the other: with positions, b = n / row_count and
/// t = positions[n], else b = n / length and t = n % length. u_v are the 24 leading bits of word v from block t
/// ceil(cols / 4) on of the sequence (seed, stream, samples[b]); the high half of a sample's number goes to the counter
/// above 2^40.
struct ReplaceTokensArgs {
  const float* logits;  // (rows, cols) contiguous
  int64_t rows, cols;
  const int32_t* labels;
  int32_t ignore_index;
  const int32_t* kept;  // (rows), nullable
  int64_t first_row;
  const int32_t* positions;  // (samples, row_count), nullable
  int64_t row_count;
  const int64_t* samples;
  int64_t length;
  uint64_t seed;
  uint32_t stream;
  float temperature;
  int32_t* tokens;
  int32_t* replaced;
};

/// Several tables one behind the other, of `rows` rows each: id number i names a row of table i / ids. 0: there is one.
struct TableParts {
  int64_t ids = 0, rows = 0;
};

/// out[i, :] = table[ids[i], :]. Ids were checked by the caller on the host when they are on the host.
struct EmbeddingArgs {
  const void* table;  // (V, C)
  const int32_t* ids;
  void* out;  // (count, C)
  int64_t count, vocab_size, hidden_size;
  TableParts parts;
};

/// grad_table[v, :] (+)= sum over i with ids[i] == v of grad_out[i, :], in the order of i. f32 table.
/// accumulate false: rows that no id names become 0. padding_idx >= 0: that row receives nothing.
struct EmbeddingBackwardArgs {
  const void* grad_out;  // (count, C), data type
  const int32_t* ids;
  float* grad_table;  // (V, C)
  int64_t count, vocab_size, hidden_size;
  int64_t padding_idx;
  bool accumulate;
  TableParts parts;
};

/// RMSNorm and LayerNorm with an optional residual: s = x + residual (stored in sum), out = norm(s) * weight + bias.
/// Rows are contiguous. sum may be x. rstd (and mean, LayerNorm) are saved for the backward when not null.
/// weight_offset is added to the weight (Gemma: 1). A null weight means ones (no elementwise affine).
struct NormArgs {
  const void* x;
  const void* residual;  // nullable
  void* sum;             // nullable when residual is null
  const void* weight;    // nullable, (C) data type
  const void* bias;      // nullable, (C) data type
  void* out;
  float* mean;  // nullable; LayerNorm
  float* rstd;  // nullable
  int64_t rows, cols;
  float eps;
  float weight_offset;
};

/// grad_x = d norm(x)/dx . grad_out + grad_sum; the gradient of x and of residual are both grad_x.
/// x is the normalised input (the forward's sum). grad_weight and grad_bias are f32, nullable, summed over rows in a
/// fixed order and added to what is there when accumulate is set. grad_x may be grad_out or grad_sum.
struct NormBackwardArgs {
  const void* grad_out;
  const void* grad_sum;  // nullable
  const void* x;
  const void* weight;  // nullable
  const float* mean;   // null for RMSNorm
  const float* rstd;
  void* grad_x;
  float* grad_weight;  // nullable
  float* grad_bias;    // nullable
  int64_t rows, cols;
  float weight_offset;
  bool accumulate;  // for both grad_weight and grad_bias
};

/// Rotary position embedding on the first rotary_dim elements of each head. Half style (NeoX, Hugging Face): pairs
/// (i, i + rotary_dim/2); interleaved: (2i, 2i+1). cos, sin: (num_positions, rotary_dim/2) f32.
/// positions (B, T), null means t + position_offset. inverse rotates back (the backward). in may be out with the same
/// strides; the elements behind rotary_dim are copied when in is not out.
struct RopeArgs {
  const void* in;
  void* out;
  int64_t batch, length, heads, head_dim, rotary_dim;
  int64_t in_stride_b, in_stride_t, in_stride_h;
  int64_t out_stride_b, out_stride_t, out_stride_h;
  const float *cos, *sin;
  int64_t num_positions;
  const int32_t* positions;  // nullable
  int64_t position_offset;
  bool interleaved;
  bool inverse;
};

enum class GluKind : int { silu, gelu_tanh, gelu_erf, relu, sigmoid };

/// out = act(gate) * up; gate and up rows may lie in one fused matrix. out is (rows, cols) contiguous.
struct GluArgs {
  const void *gate, *up;
  int64_t in_row_stride;
  void* out;
  int64_t rows, cols;
  GluKind kind;
};

struct GluBackwardArgs {
  const void* grad_out;  // (rows, cols) contiguous
  const void *gate, *up;
  int64_t in_row_stride;
  void *grad_gate, *grad_up;  // row stride grad_row_stride; may be gate and up themselves
  int64_t grad_row_stride;
  int64_t rows, cols;
  GluKind kind;
};

/// Keys of the counter-based generator; the element index is that of the tensor's contiguous order unless the arguments
/// say otherwise.
struct RngArgs {
  uint64_t seed;
  uint32_t stream;
  const int64_t* step;  // read by the kernel; low 32 bits are used. null means 0
};

/// out = in * keep / (1 - p) with keep = uniform(element) >= p, rounded to the data type; with a residual that is then
/// added. The backward is the same call on the gradient, without the residual. out may be in or residual.
/// Element i has the number first + i / row_length * row_stride + i % row_length; row_length divides count.
struct DropoutArgs {
  const void* in;
  const void* residual;  // nullable
  void* out;
  int64_t count;
  float p;
  RngArgs rng;
  int64_t first, row_length, row_stride;
};

enum class GemmEpilogue : int { none, gelu_tanh, gelu_erf, relu, silu };

/// c = epilogue(alpha * op(a) op(b) + bias) + residual + beta * c, for `batch` matrices.
/// op(a) is (m, k): element (i, l) at a[i*lda + l], or a[l*lda + i] when trans_a. op(b) is (k, n): element (l, j) at
/// b[l*ldb + j], or b[j*ldb + l] when trans_b. c (m, n) at c[i*ldc + j]. Sums over k run in f32 in an order that
/// depends on the shapes alone. Dtypes: a and b alike (data type), c data type or f32; beta is 0 unless c is f32.
/// pre_activation (nullable; strides of c, dtype of c) receives the value before the epilogue.
struct GemmArgs {
  const void *a, *b;
  void* c;
  DType c_dtype;
  bool trans_a, trans_b;
  int64_t m, n, k;
  int64_t lda, ldb, ldc;
  int64_t batch;
  int64_t stride_a, stride_b, stride_c;  // between the matrices of a batch; 0 broadcasts a or b
  float alpha, beta;
  const void* bias;      // nullable, (n) data type
  const void* residual;  // nullable, (m, n) with ldc and stride_c, dtype of c
  GemmEpilogue epilogue;
  void* pre_activation;  // nullable
};

/// The product with quantised weights: product.b is (n, k / 32) blocks, contiguous, and stands for the (n, k) weights,
/// transposed (trans_b); trans_a is false, batch is 1, everything else as in GemmArgs. Meant for few rows of a: b is
/// read once for each eight of them.
struct QuantGemmArgs {
  GemmArgs product;
  QuantFormat format;
};

/// out[i, :] = the weights of row ids[i] (of row i when ids is null). blocks (weight_rows, cols / 32) contiguous, out
/// (rows, cols) contiguous.
struct DequantizeArgs {
  const void* blocks;
  QuantFormat format;
  const int32_t* ids;  // nullable
  void* out;
  int64_t rows, cols, weight_rows;
};

/// Scaled dot-product attention with online softmax. q, out (B, Tq, H, D); k, v (B, Tk, Hkv, D); the last dimension is
/// contiguous, the others have strides (b, t, h). H is a multiple of Hkv (grouped queries).
/// Query i of sequence b stands at key position q_start[b] + i (null: kv_length_b - q_len); causal lets it see keys
/// j <= that position, window > 0 only j > position - window (and, when not causal, j < position + window).
/// prefix_ends (B, Tq), with causal: the query also sees all keys j < prefix_ends[b, i] (with a window only
/// j < position + window); what it sees never ends before what the query in front of it sees.
/// kv_lengths[b] keys are valid (null: kv_len). key_mask (B, Tk): 0 hides a key. Documents: a query sees only keys with
/// its own id. bias is added after scaling (and soft-capping: softcap * tanh(s / softcap) when softcap > 0); its
/// strides may be 0. A query that sees nothing gives 0 and lse -inf.
/// dropout: element index of the generator is row * kv_len + j, where row is dropout_first_row + b * dropout_stride_b +
/// the row (b*H + h)*Tq + i of lse: heads that are some of a larger number of heads have the numbers of those.
///
/// Paged keys and values (block_table): k and v are (num_blocks, block_size, Hkv, D), stride_b lies between blocks; key
/// j of sequence b is row j % block_size of block block_table[b * block_table_stride + j / block_size]. kv_lengths is
/// given then, kv_len is block_table_stride * block_size; blocks behind the last key are not read.
///
/// Unpadded batch (q_offsets and kv_offsets, B + 1 each): sequence b has the rows q_offsets[b] ... q_offsets[b + 1] - 1
/// of q and out (total_queries, H, D) and the rows kv_offsets[b] ... of k and v (total_keys, Hkv, D); stride_b is not
/// used, q_len and kv_len are the greatest lengths. Row i of head h of sequence b in lse and workspace
/// (H, total_queries) is h * total_queries + q_offsets[b] + i, for dropout too. kv_lengths, key_mask, documents and
/// block_table are null then, and so is grad_bias.
struct AttentionArgs {
  const void *q, *k, *v;
  void* out;
  float* lse;  // (B, H, Tq), nullable when no backward follows
  int64_t batch, q_len, kv_len, num_heads, num_kv_heads, head_dim;
  int64_t q_stride_b, q_stride_t, q_stride_h;
  int64_t k_stride_b, k_stride_t, k_stride_h;
  int64_t v_stride_b, v_stride_t, v_stride_h;
  int64_t out_stride_b, out_stride_t, out_stride_h;
  float scale;
  float softcap;
  bool causal;
  int64_t window;
  const int32_t* q_start;       // (B), nullable
  const int32_t* prefix_ends;   // (B, Tq), nullable; only when causal, null for an unpadded batch
  const int32_t* kv_lengths;    // (B), nullable
  const uint8_t* key_mask;      // (B, Tk), nullable
  const int32_t* q_documents;   // (B, Tq), nullable
  const int32_t* kv_documents;  // (B, Tk), nullable (then q_documents serves when both are null or lengths agree)
  const void* bias;             // nullable, data type
  int64_t bias_stride_b, bias_stride_h, bias_stride_q, bias_stride_k;
  const int32_t* bias_shift;  // (B), nullable: the bias lies bias_shift[b] * bias_stride_k elements further in front
  float dropout_p;
  RngArgs rng;
  int64_t dropout_first_row, dropout_stride_b;
  const int32_t* block_table;  // (B, block_table_stride), nullable; forward only
  int64_t num_blocks, block_size, block_table_stride;
  const int32_t *q_offsets, *kv_offsets;  // nullable, both or none
  int64_t total_queries, total_keys;
};

/// grad_q, grad_k, grad_v have the strides of q, k, v in `forward` unless given here; grad_out those of out.
/// grad_bias: f32 (Hb, Tq, Tk) summed over the batch, contiguous; null when not wanted; Hb is num_heads.
/// workspace holds as many floats as lse (the row sums of grad_out * out).
struct AttentionBackwardArgs {
  AttentionArgs forward;  // with out and lse as the forward left them
  const void* grad_out;
  void *grad_q, *grad_k, *grad_v;
  int64_t grad_q_stride_b, grad_q_stride_t, grad_q_stride_h;
  int64_t grad_k_stride_b, grad_k_stride_t, grad_k_stride_h;
  int64_t grad_v_stride_b, grad_v_stride_t, grad_v_stride_h;
  float* grad_bias;  // nullable
  float* workspace;
};

/// New tokens into a cache of keys and one of values: cache[b, starts[b] + t, :] = in[b, t, :] for t < ends[b] -
/// starts[b]; nothing beyond the capacity. in (B, T, width), caches (B, capacity, width) with common strides; width is
/// contiguous.
struct CacheAppendArgs {
  const void *keys, *values;
  void *key_cache, *value_cache;
  int64_t batch, length, capacity, width;
  int64_t key_stride_b, key_stride_t, value_stride_b, value_stride_t, cache_stride_b, cache_stride_t;
  const int32_t *starts, *ends;  // (B)
};

/// out[o, i, n] = in[o, index[o, i, n], n]: torch.gather along the middle dimension. in (outer, in_size, inner),
/// index and out (outer, out_size, inner), contiguous.
struct GatherArgs {
  const void* in;
  const int32_t* index;
  void* out;
  int64_t outer, in_size, out_size, inner;
};

/// out[o, index[o, i, n], n] += in[o, i, n] in the order of i. out (outer, out_size, inner) and in
/// (outer, in_size, inner) have the data type.
struct ScatterAddArgs {
  const void* in;
  const int32_t* index;
  void* out;
  int64_t outer, in_size, out_size, inner;
};

/// index[r] = argmax of row r (the first of equals); contiguous rows.
struct ArgmaxArgs {
  const void* in;
  int32_t* index;
  int64_t rows, cols;
};

/// The next token of each row (ops/sampling.h has the rules): tokens[r], -1 when a logit is NaN or the largest is not
/// finite. weights, when not null, receives the likelihoods that the draw is made from, relative to the largest.
struct SampleArgs {
  const void* logits;  // (rows, cols) contiguous
  int64_t rows, cols;
  const int32_t* history;          // (rows, history_stride), nullable: no penalty
  const int32_t* history_lengths;  // (rows), nullable: history_stride
  int64_t history_stride;
  float temperature;  // 0: the first of the largest
  int64_t top_k;      // 0: all
  float top_p, min_p, repetition_penalty;
  uint64_t seed;
  const int64_t* steps;  // (rows), nullable: 0
  int32_t* tokens;
  float* weights;  // (rows, cols), nullable
};

/// out[b] = sum of in[i]^2 in double over block b: elements [256 b, 256 b + 256), fewer in the last one. Each block is
/// added in the same fixed tree wherever it lies. f32 input; NaN and infinities carry through.
struct BlockSquaresArgs {
  static constexpr int64_t kBlock = 256;
  const float* in;
  int64_t count;
  double* out;  // (ceil(count / 256))
};

/// *out = sum of in[i], added in a tree that depends on the count alone.
struct SumAllArgs {
  const double* in;
  int64_t count;
  double* out;
};

/// What the optimizer reads on the device. grad_scale is the clipping factor (and 1 / loss scale).
struct OptimizerScalars {
  float learning_rate;
  float grad_scale;
  int64_t step;  // 1 for the first update
  int32_t skip;  // not 0: nothing is changed
};

/// What stands between backward and update, without the host: norm = sqrt(*sum_squares); grad_scale becomes
/// max_norm / (norm + 1e-6) where the norm is above max_norm > 0, else 1. When the norm or a loss is not finite, skip
/// is set, else step grows by one. With `stay`, skip is never cleared again.
struct ClipGradientArgs {
  const float* losses;  // (count)
  int64_t count;
  const double* sum_squares;
  double max_norm;
  bool stay;
  OptimizerScalars* scalars;
};

/// AdamW with decoupled decay (Loshchilov & Hutter 2019, as torch.optim.AdamW): over one flat buffer.
/// param is the f32 master weight; low_precision, when not null, receives it rounded to bf16 in the same pass.
struct AdamwArgs {
  float* param;
  bfloat16* low_precision;  // nullable
  const float* grad;
  float *exp_avg, *exp_avg_sq;
  int64_t count;
  float beta1, beta2, eps, weight_decay;
  float rate_scale;  // times the learning rate
  const OptimizerScalars* scalars;
};

/// Lion (Chen et al. 2023), over one flat buffer: p -= lr (sign(b1 m + (1 - b1) g) + wd p); m = b2 m + (1 - b2) g.
struct LionArgs {
  float* param;
  bfloat16* low_precision;  // nullable
  const float* grad;
  float* exp_avg;
  int64_t count;
  float beta1, beta2, weight_decay, rate_scale;
  const OptimizerScalars* scalars;
};

/// LAMB (You et al. 2020, algorithm 2) of one tensor (rows, cols): AdamW's direction u = m^ / (sqrt(v^) + eps) + wd p;
/// p -= lr |p| / |u| u, the ratio 1 where a norm is 0. Norms are sums over rows of sums over columns, in double.
struct LambArgs {
  float* param;
  bfloat16* low_precision;  // nullable
  const float* grad;
  float *exp_avg, *exp_avg_sq;
  double* sums;  // (2, rows) scratch
  int64_t rows, cols;
  float beta1, beta2, eps, weight_decay, rate_scale;
  const OptimizerScalars* scalars;
};

/// Adafactor (Shazeer & Stern 2018, as transformers.Adafactor) of one tensor (rows, cols), t = step, b2 = 1 - t^decay:
///   r = b2 r + (1 - b2) mean over a row of (g^2 + eps1), c the same over a column; u = g / sqrt(r c / mean(r)); or,
///   for a vector (column null, rows 1), r of each element: u = g / sqrt(r); u /= max(1, rms(u) / clip); lr' = lr
///   max(eps2, rms(p)) when scale_parameter; m = b1 m + (1 - b1) lr' u when exp_avg is not null, and m takes the place
///   of lr' u; p -= lr' wd p + lr' u.
/// relative_step: lr is min(1e-2, 1 / sqrt(t)), 1e-6 t in place of 1e-2 when warmup_init.
struct AdafactorArgs {
  float* param;
  bfloat16* low_precision;  // nullable
  const float* grad;
  float* row;      // (rows), of a vector (cols)
  float* column;   // (cols), nullable
  float* exp_avg;  // (rows, cols), nullable
  double* sums;    // (2, rows) scratch
  int64_t rows, cols;
  float eps1, eps2, clip, decay, beta1, weight_decay, rate_scale;
  bool scale_parameter, relative_step, warmup_init;
  const OptimizerScalars* scalars;
};

/// Exponential moving average: average += rate * (value - average), one rounding for the difference, one for the rest.
struct EmaArgs {
  float* average;
  const float* value;
  int64_t count;
  float rate;                       // 1 - decay
  const OptimizerScalars* scalars;  // nullable; its skip leaves the average as it is
};

/// SGD as torch.optim.SGD: g += weight_decay * p; buf = momentum * buf + g; p -= lr * (nesterov ? g + momentum*buf :
/// buf).
struct SgdArgs {
  float* param;
  bfloat16* low_precision;  // nullable
  const float* grad;
  float* momentum_buffer;  // nullable when momentum is 0; zero before the first step
  int64_t count;
  float momentum, weight_decay;
  float rate_scale;  // times the learning rate
  bool nesterov;
  const OptimizerScalars* scalars;
};

}  // namespace ondol
