// attention and attention_backward, for every mask, bias, soft cap and dropout of AttentionArgs.
//
// Formula: s = cap(scale q.k) + bias, p = softmax(s) over the visible keys, out = sum p d v with d the dropout factor;
//          delta = sum(grad_out * out), ds = p (d grad_out.v - delta), grad_q = sum ds cap' scale k,
//          grad_k = sum ds cap' scale q, grad_v = sum p d grad_out, grad_bias = sum over the batch of ds.
// Layout: q, out (B, Tq, H, D), k, v (B, Tk, Hkv, D) with strides, D contiguous and at most 256.
// Mapping: forward and grad_q: a warp for each query; 32 keys at a time, one for each lane while scoring, then the
// lanes
//          share the head dimension. grad_k, grad_v: a warp for each key, 32 queries at a time. grad_bias: a warp for
//          each (head, query). Tensor cores are not used yet.
// Accumulation: f32, online softmax; keys (queries) in order, in chunks that begin at multiples of 32, so that decoding
//          repeats the bytes of the prefill.
// Tuning: kWarps, untuned: not run on a GPU yet.
#include "device/attention.cuh"
#include "launch.h"
#include "rows.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kWarps = 4;
constexpr int64_t kMaxHeadDim = 256;

/// The number of this warp in the grid.
__device__ int64_t global_warp() { return static_cast<int64_t>(blockIdx.x) * kWarps + warp_index(); }

/// Query `row` of (B, H, Tq).
struct QueryRow {
  int64_t b, h, i;
  __device__ QueryRow(const AttentionArgs& a, int64_t row)
      : b(row / (a.num_heads * a.q_len)), h(row / a.q_len % a.num_heads), i(row % a.q_len) {}
};

template <class T>
__device__ const T* key_at(const AttentionArgs& a, int64_t b, int64_t j, int64_t kv_head) {
  return static_cast<const T*>(a.k) + b * a.k_stride_b + j * a.k_stride_t + kv_head * a.k_stride_h;
}
template <class T>
__device__ const T* value_at(const AttentionArgs& a, int64_t b, int64_t j, int64_t kv_head) {
  return static_cast<const T*>(a.v) + b * a.v_stride_b + j * a.v_stride_t + kv_head * a.v_stride_h;
}
template <class T>
__device__ const T* query_at(const AttentionArgs& a, int64_t b, int64_t i, int64_t h) {
  return static_cast<const T*>(a.q) + b * a.q_stride_b + i * a.q_stride_t + h * a.q_stride_h;
}
__device__ int64_t out_offset(const AttentionArgs& a, int64_t b, int64_t i, int64_t h) {
  return b * a.out_stride_b + i * a.out_stride_t + h * a.out_stride_h;
}

template <class T, int kParts>
__global__ void attention_kernel(AttentionArgs a) {
  SharedMemory shared;
  float* weights = shared.take<float>(kWarps * 32) + warp_index() * 32;
  float* q = shared.take<float>(kWarps * a.head_dim) + warp_index() * a.head_dim;
  const int64_t row = global_warp();
  if (row >= a.batch * a.num_heads * a.q_len) return;
  const QueryRow at(a, row);
  const int64_t kv_head = at.h / (a.num_heads / a.num_kv_heads);
  const Sequence sequence(a, at.b);
  warp_load(q, query_at<T>(a, at.b, at.i, at.h), a.head_dim);
  warp_barrier();

  float max = -INFINITY, sum = 0.0f;
  LaneVector<kParts> out;
  const Range keys = key_range(a, sequence, at.i);
  for (int64_t j0 = keys.begin / 32 * 32; j0 < keys.end; j0 += 32) {
    const int64_t j = j0 + lane_index();
    float score = -INFINITY;
    if (j >= keys.begin && j < keys.end && sequence.visible(a, at.i, j)) {
      score = score_of<T>(a, dot(q, key_at<T>(a, at.b, j, kv_head), a.head_dim), at.b, at.h, at.i, j).value;
    }
    const float greater = Max{}(max, warp_reduce(score, Max{}));
    if (greater == -INFINITY) continue;
    const float weight = expf(score - greater);
    const float shrink = expf(max - greater);
    sum = sum * shrink + warp_reduce(weight, Sum{});
    out.scale(shrink);
    max = greater;
    warp_share(weights, weight == 0.0f ? 0.0f : weight * dropout_factor(a, row, j));
    for (int n = 0; n < 32; ++n) {
      const float w = weights[n];
      if (w != 0.0f) out.add(w, value_at<T>(a, at.b, j0 + n, kv_head), a.head_dim);  // hidden values are not read
    }
  }
  const bool empty = sum == 0.0f;
  out.scale(empty ? 0.0f : 1.0f / sum);
  out.store(static_cast<T*>(a.out) + out_offset(a, at.b, at.i, at.h), a.head_dim);
  if (a.lse != nullptr && lane_index() == 0) a.lse[row] = empty ? -INFINITY : max + logf(sum);
}

/// What a visible pair contributes to the gradients.
struct PairGradient {
  float kept;     // p d: the weight of grad_out in grad_v
  float score;    // ds
  float product;  // ds cap' scale: of the dot product of query and key
};

template <class T>
__device__ PairGradient pair_gradient(const AttentionArgs& a, float query_key, float grad_value, float lse, float delta,
                                      const QueryRow& at, int64_t row, int64_t j) {
  const Score s = score_of<T>(a, query_key, at.b, at.h, at.i, j);
  const float p = lse == -INFINITY ? 0.0f : expf(s.value - lse);
  const float factor = dropout_factor(a, row, j);
  const float ds = p * (grad_value * factor - delta);
  return {p * factor, ds, ds * s.slope * a.scale};
}

/// delta into the workspace, grad_q.
template <class T, int kParts>
__global__ void attention_grad_q_kernel(AttentionBackwardArgs args) {
  const AttentionArgs& a = args.forward;
  SharedMemory shared;
  float* products = shared.take<float>(kWarps * 32) + warp_index() * 32;
  float* q = shared.take<float>(kWarps * a.head_dim) + warp_index() * a.head_dim;
  float* g = shared.take<float>(kWarps * a.head_dim) + warp_index() * a.head_dim;
  const int64_t row = global_warp();
  if (row >= a.batch * a.num_heads * a.q_len) return;
  const QueryRow at(a, row);
  const int64_t kv_head = at.h / (a.num_heads / a.num_kv_heads);
  const Sequence sequence(a, at.b);
  const int64_t out_at = out_offset(a, at.b, at.i, at.h);
  warp_load(q, query_at<T>(a, at.b, at.i, at.h), a.head_dim);
  warp_load(g, static_cast<const T*>(args.grad_out) + out_at, a.head_dim);
  warp_barrier();

  const T* out = static_cast<const T*>(a.out) + out_at;
  float delta = 0.0f;
  for (int64_t d = lane_index(); d < a.head_dim; d += 32) delta += g[d] * to_float(out[d]);
  delta = warp_reduce(delta, Sum{});
  if (lane_index() == 0) args.workspace[row] = delta;

  LaneVector<kParts> grad_q;
  const float lse = a.lse[row];
  const Range keys = key_range(a, sequence, at.i);
  for (int64_t j0 = keys.begin / 32 * 32; j0 < keys.end; j0 += 32) {
    const int64_t j = j0 + lane_index();
    float product = 0.0f;
    if (j >= keys.begin && j < keys.end && sequence.visible(a, at.i, j)) {
      const float query_key = dot(q, key_at<T>(a, at.b, j, kv_head), a.head_dim);
      const float grad_value = dot(g, value_at<T>(a, at.b, j, kv_head), a.head_dim);
      product = pair_gradient<T>(a, query_key, grad_value, lse, delta, at, row, j).product;
    }
    warp_share(products, product);
    for (int n = 0; n < 32; ++n) {
      const float w = products[n];
      if (w != 0.0f) grad_q.add(w, key_at<T>(a, at.b, j0 + n, kv_head), a.head_dim);
    }
  }
  T* target = static_cast<T*>(args.grad_q) + at.b * args.grad_q_stride_b + at.i * args.grad_q_stride_t +
              at.h * args.grad_q_stride_h;
  grad_q.store(target, a.head_dim);
}

template <class T, int kParts>
__global__ void attention_grad_kv_kernel(AttentionBackwardArgs args) {
  const AttentionArgs& a = args.forward;
  SharedMemory shared;
  float* kepts = shared.take<float>(kWarps * 32) + warp_index() * 32;
  float* products = shared.take<float>(kWarps * 32) + warp_index() * 32;
  float* k = shared.take<float>(kWarps * a.head_dim) + warp_index() * a.head_dim;
  float* v = shared.take<float>(kWarps * a.head_dim) + warp_index() * a.head_dim;
  const int64_t number = global_warp();
  if (number >= a.batch * a.num_kv_heads * a.kv_len) return;
  const int64_t b = number / (a.num_kv_heads * a.kv_len), kv_head = number / a.kv_len % a.num_kv_heads;
  const int64_t j = number % a.kv_len;
  const Sequence sequence(a, b);
  warp_load(k, key_at<T>(a, b, j, kv_head), a.head_dim);
  warp_load(v, value_at<T>(a, b, j, kv_head), a.head_dim);
  warp_barrier();

  LaneVector<kParts> grad_k, grad_v;
  const Range queries = query_range(a, sequence, j);
  const int64_t group = a.num_heads / a.num_kv_heads;
  for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
    for (int64_t i0 = queries.begin / 32 * 32; i0 < queries.end; i0 += 32) {
      const int64_t i = i0 + lane_index();
      PairGradient pair{};
      if (i >= queries.begin && i < queries.end && sequence.visible(a, i, j)) {
        const int64_t row = (b * a.num_heads + h) * a.q_len + i;
        const T* g = static_cast<const T*>(args.grad_out) + out_offset(a, b, i, h);
        pair = pair_gradient<T>(a, dot(k, query_at<T>(a, b, i, h), a.head_dim), dot(v, g, a.head_dim), a.lse[row],
                                args.workspace[row], QueryRow(a, row), row, j);
      }
      warp_share(kepts, pair.kept);
      warp_share(products, pair.product);
      for (int n = 0; n < 32; ++n) {
        const float kept = kepts[n], product = products[n];
        if (product != 0.0f) grad_k.add(product, query_at<T>(a, b, i0 + n, h), a.head_dim);
        if (kept != 0.0f) {
          grad_v.add(kept, static_cast<const T*>(args.grad_out) + out_offset(a, b, i0 + n, h), a.head_dim);
        }
      }
    }
  }
  grad_k.store(static_cast<T*>(args.grad_k) + b * args.grad_k_stride_b + j * args.grad_k_stride_t +
                   kv_head * args.grad_k_stride_h,
               a.head_dim);
  grad_v.store(static_cast<T*>(args.grad_v) + b * args.grad_v_stride_b + j * args.grad_v_stride_t +
                   kv_head * args.grad_v_stride_h,
               a.head_dim);
}

/// grad_bias[h, i, j]: a lane adds up its own keys over the batch, one sequence after the other.
template <class T>
__global__ void attention_grad_bias_kernel(AttentionBackwardArgs args) {
  const AttentionArgs& a = args.forward;
  SharedMemory shared;
  float* q = shared.take<float>(kWarps * a.head_dim) + warp_index() * a.head_dim;
  float* g = shared.take<float>(kWarps * a.head_dim) + warp_index() * a.head_dim;
  const int64_t number = global_warp();
  if (number >= a.num_heads * a.q_len) return;
  const int64_t h = number / a.q_len, i = number % a.q_len;
  const int64_t kv_head = h / (a.num_heads / a.num_kv_heads);
  float* target = args.grad_bias + number * a.kv_len;
  for (int64_t j = lane_index(); j < a.kv_len; j += 32) target[j] = 0.0f;
  for (int64_t b = 0; b < a.batch; ++b) {
    const Sequence sequence(a, b);
    const int64_t row = (b * a.num_heads + h) * a.q_len + i;
    warp_barrier();  // the vectors of the sequence before may still be read
    warp_load(q, query_at<T>(a, b, i, h), a.head_dim);
    warp_load(g, static_cast<const T*>(args.grad_out) + out_offset(a, b, i, h), a.head_dim);
    warp_barrier();
    for (int64_t j = lane_index(); j < a.kv_len; j += 32) {
      if (!sequence.visible(a, i, j)) continue;
      const float query_key = dot(q, key_at<T>(a, b, j, kv_head), a.head_dim);
      const float grad_value = dot(g, value_at<T>(a, b, j, kv_head), a.head_dim);
      target[j] +=
          pair_gradient<T>(a, query_key, grad_value, a.lse[row], args.workspace[row], QueryRow(a, row), row, j).score;
    }
  }
}

void check_head_dim(const char* op, const AttentionArgs& a) {
  ONDOL_CHECK(a.head_dim <= kMaxHeadDim, "[", op, "] head_dim ", a.head_dim, " is greater than ", kMaxHeadDim);
}

/// Shared memory for `vectors` of head_dim elements and `slots` of 32 for each warp.
size_t warp_memory(const AttentionArgs& a, int vectors, int slots) {
  return static_cast<size_t>(vectors) * shared_bytes<float>(kWarps * a.head_dim) +
         static_cast<size_t>(slots) * shared_bytes<float>(kWarps * 32);
}

template <class T>
void attention(const AttentionArgs& a, Stream stream) {
  check_head_dim("attention", a);
  const int64_t rows = a.batch * a.num_heads * a.q_len;
  if (rows == 0) return;
  auto* kernel = a.head_dim <= 64    ? attention_kernel<T, 2>
                 : a.head_dim <= 128 ? attention_kernel<T, 4>
                                     : attention_kernel<T, 8>;
  launch("attention", kernel, blocks_for("attention", rows, kWarps), kWarps * kWarpSize, warp_memory(a, 1, 1), stream,
         a);
}

template <class T>
void attention_backward(const AttentionBackwardArgs& args, Stream stream) {
  const char* op = "attention_backward";
  const AttentionArgs& a = args.forward;
  check_head_dim(op, a);
  const auto run = [&](auto* kernel, int64_t warps) {
    if (warps == 0) return;
    launch(op, kernel, blocks_for(op, warps, kWarps), kWarps * kWarpSize, warp_memory(a, 2, 2), stream, args);
  };
  run(a.head_dim <= 64    ? attention_grad_q_kernel<T, 2>
      : a.head_dim <= 128 ? attention_grad_q_kernel<T, 4>
                          : attention_grad_q_kernel<T, 8>,
      a.batch * a.num_heads * a.q_len);
  run(a.head_dim <= 64    ? attention_grad_kv_kernel<T, 2>
      : a.head_dim <= 128 ? attention_grad_kv_kernel<T, 4>
                          : attention_grad_kv_kernel<T, 8>,
      a.batch * a.num_kv_heads * a.kv_len);
  if (args.grad_bias != nullptr) run(attention_grad_bias_kernel<T>, a.num_heads * a.q_len);
}

}  // namespace

void add_attention_rows(KernelTable& table) {
  table.attention.set(DType::f32, attention<float>);
  table.attention.set(DType::bf16, attention<bfloat16>);
  table.attention_backward.set(DType::f32, attention_backward<float>);
  table.attention_backward.set(DType::bf16, attention_backward<bfloat16>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
