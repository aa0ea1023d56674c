// Scaled dot-product attention (Vaswani et al. 2017) with online softmax: memory grows linearly with the length.
//
//   AttentionResult r = ops::attention(q, k, v, {.causal = true});     // (B, T, H, D), (B, T, Hkv, D) x 2
//
// Grouped queries: H is a multiple of Hkv. The last dimension of q, k, v is contiguous, the others may have any strides
// (slices of one fused projection are fine). See AttentionOptions for masks. A query that sees no key gives 0.
//
// A prefix that is attended to in both directions (Raffel et al. 2020, section 3.2.1), the rest of the row causally:
//
//   const Tensor ends = Tensor::from_vector<int32_t>({3, 3, 3, 0, 0}, {1, 5});               // tokens 0, 1 and 2
//   ops::attention(q, k, v, {.causal = true, .prefix_ends = ends});
//
// Unpadded batches: the rows of all sequences one after the other, in one sequence of tensors.
//
//   const auto sequences = SequenceOffsets::from_lengths({5, 1, 9}, q.device());         // q, k, v (1, 15, H or Hkv,
//   D) ops::attention(q, k, v, {.q_sequences = sequences, .kv_sequences = sequences});      // out (1, 15, H, D)
//
// Keys and values in blocks of a pool, as an engine that serves many sequences keeps them:
//
//   ops::attention(q, key_pool, value_pool,                   // (B, Tq, H, D), (num_blocks, block_size, Hkv, D) x 2
//                  {.causal = true, .kv_lengths = lengths, .block_table = table}, /*need_lse=*/false);
#pragma once

#include <vector>

#include <ondol/ops/dropout.h>
#include <ondol/tensor/tensor.h>

namespace ondol {

/// Where the sequences of an unpadded batch lie: sequence b has the rows offsets[b] ... offsets[b + 1] - 1.
struct SequenceOffsets {
  Tensor offsets;          // (B + 1) i32, from 0 to the number of rows, never descending
  int64_t max_length = 0;  // no sequence is longer

  /// Throws Error when a length is negative or the sum exceeds 2^31 - 1.
  static SequenceOffsets from_lengths(const std::vector<int64_t>& lengths, Device device = {});
  bool defined() const { return offsets.defined(); }
};

struct AttentionOptions {
  float scale = 0.0f;    // 0: 1 / sqrt(D)
  float softcap = 0.0f;  // > 0: scores become softcap * tanh(score / softcap)
  bool causal = false;
  int64_t window = 0;  // > 0: a query sees itself and the window - 1 keys before it (not causal: and behind it)
  // (B, Tq) i32, with causal: a query also sees the keys before its prefix end, a position as q_start gives them (with
  // a window no further than window - 1 keys behind it); 0: none. A query must see at least as far as the one before
  // it, as it does where each prefix has one end and prefixes do not overlap. Not for unpadded batches.
  Tensor prefix_ends;
  Tensor q_start;     // (B) i32: key position of query 0; default: valid keys - q_len
  Tensor kv_lengths;  // (B) i32: number of valid keys; default all; needed with block_table
  Tensor key_mask;    // (B, Tk) u8: 0 hides a key
  Tensor documents;   // (B, T) i32, q_len == kv_len: only keys with the query's id are seen
  Tensor bias;        // broadcast to (B, H, Tq, Tk), added to the scaled scores; dtype of q
  // A bias that depends on how far a key is from the query alone, as relative positions give it: (H or 1, R), dtype of
  // q, instead of `bias`. A query at key position p (q_start + its index) and key j take element relative_origin + j -
  // p of their head's row; the row must hold all that can occur. Not for unpadded batches.
  Tensor relative_bias;
  int64_t relative_origin = 0;
  float dropout_p = 0.0f;
  RngKey rng;  // with the numbers of whole tensors: numbers of dropout are those of (B, H, Tq, Tk)
  // H heads that are some of `all_heads`, from number first_head on, are dropped as they are among all of them; 0: H is
  // all there are.
  int64_t first_head = 0, all_heads = 0;

  // Unpadded batch, both or none: q is (1, all queries, H, D), k and v (1, all keys, Hkv, D); every row belongs to a
  // sequence. q_start is (B), a bias (B or 1, .., max. queries, max. keys) and gets no gradient; kv_lengths, key_mask,
  // documents and block_table are not used with it.
  SequenceOffsets q_sequences, kv_sequences;

  // Keys in blocks: k and v are (num_blocks, block_size, Hkv, D); key j of sequence b is row j % block_size of block
  // block_table[b, j / block_size]. Blocks behind the last key are not read. No backward, key_mask or documents.
  Tensor block_table;  // (B, max_blocks) i32
};
// Offsets, lengths and tables are checked where they lie on the host. Wrong ones on a GPU, which is not asked, give
// wrong numbers, but nothing outside the tensors is read or written.

}  // namespace ondol

namespace ondol::ops {

struct AttentionResult {
  Tensor out;  // (B, Tq, H, D) contiguous, dtype of q
  Tensor lse;  // (B, H, Tq) f32, unpadded (H, all queries); undefined when need_lse was false
};

AttentionResult attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options,
                          bool need_lse = true);

/// New tokens of a decoder into its cache: keys and values (B, T, Hkv, D) of row b go to the positions starts[b] ... of
/// key_cache and value_cache (B, capacity, Hkv, D; strides alike, each position contiguous), as many as ends[b] -
/// starts[b]; what would lie beyond the capacity is left out. All of one dtype; starts and ends (B) i32.
void append_to_cache(const Tensor& key_cache, const Tensor& value_cache, const Tensor& keys, const Tensor& values,
                     const Tensor& starts, const Tensor& ends);

/// Writes into grad_q, grad_k, grad_v (same shapes as q, k, v; own strides, last dimension contiguous) and, when
/// defined, grad_bias (H, Tq, Tk) f32, summed over the batch: that of each pair also for a relative bias, whose
/// gradient is sum_relative_bias_grad of it.
void attention_backward_into(const Tensor& grad_output, const Tensor& q, const Tensor& k, const Tensor& v,
                             const AttentionResult& forward, const AttentionOptions& options, const Tensor& grad_q,
                             const Tensor& grad_k, const Tensor& grad_v, const Tensor& grad_bias = {});

/// grad_bias (H, Tq, Tk) f32 summed along its diagonals: (H, Tq + Tk - 1) f32, where column c has the pairs with
/// key - query = c - (Tq - 1). With q_start left out it is the gradient of the elements of relative_bias from
/// relative_origin - (Tk - 1) on; all others are 0.
Tensor sum_relative_bias_grad(const Tensor& grad_bias);

}  // namespace ondol::ops
