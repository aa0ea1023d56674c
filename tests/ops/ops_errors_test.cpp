// Wrong shapes, dtypes and values are refused with messages that name them.
#include <gtest/gtest.h>

#include <ondol/ops/attention.h>
#include <ondol/ops/dropout.h>
#include <ondol/ops/embedding.h>
#include <ondol/ops/glu.h>
#include <ondol/ops/loss.h>
#include <ondol/ops/matmul.h>
#include <ondol/ops/norm.h>
#include <ondol/ops/optimizer.h>
#include <ondol/ops/reduce.h>
#include <ondol/ops/rope.h>

#include "support/error_of.h"

namespace ondol {
namespace {

#define EXPECT_MESSAGE(text, expression) EXPECT_EQ(testing::error_of([&] { (void)(expression); }), text)

Tensor floats(const Shape& shape, DType dtype = DType::f32) { return Tensor::full(shape, 1.0, dtype); }

TEST(OpErrors, NameShapesAndDtypes) {
  const Tensor x = floats({4, 48});
  EXPECT_MESSAGE("[rms_norm] weight has shape (32), x (4, 48): last dimensions differ",
                 ops::rms_norm(x, floats({32}), {}));
  EXPECT_MESSAGE("[rms_norm] weight holds bf16, x f32", ops::rms_norm(x, floats({48}, DType::bf16), {}));
  EXPECT_MESSAGE("[add] shapes (4, 48) and (5, 48) do not broadcast", ops::add(x, floats({5, 48})));
  EXPECT_MESSAGE("[add] b holds bf16, a f32", ops::add(x, floats({48}, DType::bf16)));
  EXPECT_MESSAGE("[exp] x holds f64: f32 or bf16 is needed", ops::exp(floats({2}, DType::f64)));
  EXPECT_MESSAGE("[softmax] x is undefined", ops::softmax(Tensor()));
  EXPECT_MESSAGE("[matmul] shapes (4, 48) and (4, 48): inner sizes 48 and 4 differ", ops::matmul(x, x));
  EXPECT_MESSAGE("[linear] weight has shape (3, 5), x (4, 48): last dimension must be 5",
                 ops::linear(x, {.weight = floats({3, 5})}));
  EXPECT_MESSAGE("[glu] gate_up has shape (3, 5): the last dimension must be even",
                 ops::glu(floats({3, 5}), Activation::silu));
  EXPECT_MESSAGE("[max] dimension 1 of shape (3, 0) is empty", ops::max(floats({3, 0}), 1));
  EXPECT_MESSAGE("[concat] shapes (2, 3) and (2, 4) differ outside dimension 0",
                 ops::concat({floats({2, 3}), floats({2, 4})}, 0));
  EXPECT_MESSAGE("[attention] 3 heads are no multiple of 2 key heads",
                 ops::attention(floats({1, 2, 3, 4}), floats({1, 2, 2, 4}), floats({1, 2, 2, 4}), {}));
  EXPECT_MESSAGE("[sgd] momentum 0.9 needs a momentum buffer",
                 ops::sgd_step({x, {}, x, {}}, {.momentum = 0.9f}, ops::make_optimizer_scalars({})));
  EXPECT_MESSAGE("[adamw] grad has 3 elements, param 192",
                 ops::adamw_step({x, {}, floats({3}), x, x}, {}, ops::make_optimizer_scalars({})));
}

TEST(OpErrors, NameWrongFormsOfAttention) {
  const Tensor q = floats({1, 5, 2, 4}), pool = floats({3, 2, 2, 4});
  const auto ints = [](const std::vector<int32_t>& values) {
    return Tensor::from_vector(values, {static_cast<int64_t>(values.size())});
  };
  const auto unpadded = [&](const std::vector<int32_t>& offsets, int64_t max_length) {
    AttentionOptions options;
    options.q_sequences = SequenceOffsets::from_lengths({2, 3});
    options.kv_sequences = {ints(offsets), max_length};
    return ops::attention(q, q, q, options);
  };
  EXPECT_MESSAGE("[attention] kv_sequences lead from 1 to 5, not from 0 to the 5 rows", unpadded({1, 2, 5}, 3));
  EXPECT_MESSAGE("[attention] kv_sequences lead from 0 to 6, not from 0 to the 5 rows", unpadded({0, 2, 6}, 4));
  EXPECT_MESSAGE("[attention] kv_sequences: sequence 0 has -1 rows, max_length is 5", unpadded({0, -1, 5}, 5));
  EXPECT_MESSAGE("[attention] kv_sequences: sequence 0 has 6 rows, max_length is 5", unpadded({0, 6, 5}, 5));
  EXPECT_MESSAGE("[attention] kv_sequences: sequence 1 has 3 rows, max_length is 2", unpadded({0, 2, 5}, 2));
  EXPECT_MESSAGE("[attention] kv_sequences: max_length 6 is outside [0, 5]", unpadded({0, 2, 5}, 6));
  EXPECT_MESSAGE("[attention] kv_sequences has shape (2): (3) is needed", unpadded({0, 5}, 5));
  EXPECT_MESSAGE("[attention] sequence 1 of an unpadded batch has length -1: 0 to 2147483643 is possible",
                 SequenceOffsets::from_lengths({4, -1}));
  EXPECT_MESSAGE("[attention] sequence 1 of an unpadded batch has length 2147483647: 0 to 2147483643 is possible",
                 SequenceOffsets::from_lengths({4, 2147483647}));
  AttentionOptions half;
  half.q_sequences = SequenceOffsets::from_lengths({2, 3});
  EXPECT_MESSAGE("[attention] an unpadded batch needs q_sequences and kv_sequences", ops::attention(q, q, q, half));
  half.kv_sequences = half.q_sequences;
  half.key_mask = Tensor::full({1, 5}, 1, DType::u8);
  EXPECT_MESSAGE("[attention] unpadded batches do not go with kv_lengths, key_mask or documents",
                 ops::attention(q, q, q, half));
  half.key_mask = {};
  const Tensor rows = floats({2, 5, 2, 4});
  EXPECT_MESSAGE("[attention] q has shape (2, 5, 2, 4): an unpadded batch is (1, T, H, D)",
                 ops::attention(rows, rows, rows, half));

  const auto prefixed = [&](const std::vector<int32_t>& ends, bool causal, bool in_rows = true) {
    AttentionOptions options{.causal = causal};
    options.prefix_ends = Tensor::from_vector(ends, {1, static_cast<int64_t>(ends.size())});
    if (!in_rows) options.q_sequences = options.kv_sequences = SequenceOffsets::from_lengths({5});
    return ops::attention(q, q, q, options);
  };
  EXPECT_MESSAGE("no error", prefixed({2, 2, 0, 5, 5}, true));
  EXPECT_MESSAGE("[attention] prefix_ends need causal attention", prefixed({2, 2, 0, 5, 5}, false));
  EXPECT_MESSAGE("[attention] prefix_ends do not go with unpadded batches", prefixed({2, 2, 0, 5, 5}, true, false));
  EXPECT_MESSAGE("[attention] prefix_ends has shape (1, 4): (1, 5) is needed", prefixed({2, 2, 0, 4}, true));
  EXPECT_MESSAGE(
      "[attention] prefix_ends of sequence 0: query 2 sees the keys before 3, the query in front of it those before 4",
      prefixed({4, 4, 3, 0, 0}, true));

  const auto paged = [&](const std::vector<int32_t>& table, int32_t length) {
    AttentionOptions options;
    options.block_table = Tensor::from_vector(table, {1, static_cast<int64_t>(table.size())});
    options.kv_lengths = ints({length});
    return ops::attention(q, pool, pool, options);
  };
  EXPECT_MESSAGE("[attention] block_table 3 at (0, 1) of (1, 2) is outside [0, 3)", paged({2, 3}, 3));
  EXPECT_MESSAGE("[attention] block_table -1 at (0, 0) of (1, 2) is outside [0, 3)", paged({-1, 0}, 1));
  EXPECT_MESSAGE("no error", paged({2, 3}, 2));
  EXPECT_MESSAGE("[attention] kv_lengths 5 at (0) of (1) is outside [0, 5)", paged({2, 1}, 5));
  AttentionOptions blocks;
  blocks.block_table = Tensor::from_vector<int32_t>({2, 1}, {1, 2});
  EXPECT_MESSAGE("[attention] block_table needs kv_lengths", ops::attention(q, pool, pool, blocks));
  blocks.kv_lengths = ints({3});
  const ops::AttentionResult result = ops::attention(q, pool, pool, blocks);
  EXPECT_MESSAGE("[attention_backward] keys in blocks have no backward",
                 ops::attention_backward_into(q, q, pool, pool, result, blocks, q, pool, pool));
  blocks.block_table = Tensor::from_vector<int32_t>({2, 1}, {2, 1});
  EXPECT_MESSAGE("[attention] block_table has shape (2, 1): (1, blocks) is needed",
                 ops::attention(q, pool, pool, blocks));
}

TEST(OpErrors, NameValuesOutOfRange) {
  const Tensor table = floats({10, 4});
  EXPECT_MESSAGE("[embedding] id 10 at (1, 0) of (2, 2) is outside [0, 10)",
                 ops::embedding(table, Tensor::from_vector<int32_t>({0, 9, 10, 3}, {2, 2})));
  EXPECT_MESSAGE("[cross_entropy] label -1 at (1) of (2) is outside [0, 4)",
                 ops::cross_entropy(floats({2, 4}), Tensor::from_vector<int32_t>({-100, -1}, {2})));
  EXPECT_MESSAGE("[linear_cross_entropy] label 10 at (0) of (1) is outside [0, 10)",
                 ops::linear_cross_entropy(floats({1, 4}), table, Tensor::from_vector<int32_t>({10}, {1}), {}));
  EXPECT_MESSAGE("[gather] index 4 at (0, 1) of (1, 2) is outside [0, 4)",
                 ops::gather(floats({1, 4}), 1, Tensor::from_vector<int32_t>({0, 4}, {1, 2})));
  EXPECT_MESSAGE("[dropout] dropout probability 1 is outside [0, 1)", ops::dropout(table, 1.0f, {}));
  EXPECT_MESSAGE("[dropout_add] residual has shape (2, 4): (10, 4) is needed",
                 ops::dropout_add(table, floats({2, 4}), 0.1f, {}));
  const RopeTable rope = ops::make_rope_table({.head_dim = 4, .max_positions = 8}, {});
  EXPECT_MESSAGE("[rope] positions 5 to 8 exceed the table of 8",
                 ops::rope(floats({1, 4, 1, 4}), rope, {.position_offset = 5}));
  const Tensor positions = Tensor::from_vector<int32_t>({0, 8}, {1, 2});
  EXPECT_MESSAGE("[rope] position 8 at (0, 1) of (1, 2) is outside [0, 8)",
                 ops::rope(floats({1, 2, 1, 4}), rope, {.positions = &positions}));
}

TEST(OpErrors, UsageErrorsOfConfigurations) {
  EXPECT_THROW(activation_from_name("gelu2"), UsageError);
  EXPECT_EQ(activation_from_name("gelu_pytorch_tanh"), Activation::gelu_tanh);
  EXPECT_EQ(activation_from_name("gelu"), Activation::gelu_erf);
  EXPECT_EQ(activation_from_name("swish"), Activation::silu);
  EXPECT_THROW(ops::make_rope_table({.head_dim = 8, .type = "yarn"}, {}), UsageError);
  EXPECT_THROW(ops::make_rope_table({.head_dim = 8, .rotary_dim = 3}, {}), UsageError);
  EXPECT_THROW(ops::make_rope_table({.head_dim = 8, .type = "llama3", .factor = 8}, {}), UsageError);
}

}  // namespace
}  // namespace ondol
