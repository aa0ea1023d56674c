#include <ondol/ops/embedding.h>

#include "ops/checks.h"
#include "ops/index_checks.h"

namespace ondol::ops {

Tensor embedding(const Tensor& table, const Tensor& ids) {
  check_data("embedding", "table", table);
  ONDOL_CHECK(table.ndim() == 2, "[embedding] table has shape ", table.shape(), ": (V, C) is needed");
  check_dtype("embedding", "ids", ids, DType::i32, table);
  check_contiguous("embedding", "table", table);
  ONDOL_CHECK(ids.ndim() < Shape::kMaxDims, "[embedding] ids have too many dimensions: ", ids.shape());
  int64_t sizes[Shape::kMaxDims];
  for (int d = 0; d < ids.ndim(); ++d) sizes[d] = ids.size(d);
  sizes[ids.ndim()] = table.size(1);
  Tensor out = Tensor::empty(Shape(std::span<const int64_t>(sizes, static_cast<size_t>(ids.ndim() + 1))), table.dtype(),
                             table.device());
  const Tensor places = ids.contiguous();
  check_range_on_host("embedding", "id", places, table.size(0));
  if (out.numel() == 0) return out;
  run_kernel(&KernelTable::embedding, table.device(), table.dtype(),
             EmbeddingArgs{table.raw(), places.data<int32_t>(), out.raw(), ids.numel(), table.size(0), table.size(1)});
  return out;
}

void embedding_backward_into(const Tensor& grad_table, const Tensor& grad_output, const Tensor& ids, bool accumulate,
                             int64_t padding_idx) {
  constexpr const char* op = "embedding_backward";
  check_data(op, "grad_output", grad_output);
  check_dtype(op, "grad_table", grad_table, DType::f32, grad_output);
  ONDOL_CHECK(grad_table.ndim() == 2, "[", op, "] grad_table has shape ", grad_table.shape(), ": (V, C) is needed");
  check_contiguous(op, "grad_table", grad_table);
  check_dtype(op, "ids", ids, DType::i32, grad_output);
  ONDOL_CHECK(grad_output.ndim() >= 1 && grad_output.size(-1) == grad_table.size(1) &&
                  leading_size(grad_output.shape()) == ids.numel(),
              "[", op, "] grad_output has shape ", grad_output.shape(), ", ids ", ids.shape(), ", grad_table ",
              grad_table.shape());
  if (grad_table.numel() == 0) return;
  const Tensor places = ids.contiguous(), grads = grad_output.contiguous();
  check_range_on_host(op, "id", places, grad_table.size(0));
  run_kernel(&KernelTable::embedding_backward, grads.device(), grads.dtype(),
             EmbeddingBackwardArgs{grads.raw(), places.data<int32_t>(), grad_table.data<float>(), ids.numel(),
                                   grad_table.size(0), grad_table.size(1), padding_idx, accumulate});
}

Tensor take_rows(const Tensor& x, const Tensor& rows) {
  constexpr const char* op = "take_rows";
  check_data(op, "x", x);
  check_dtype(op, "rows", rows, DType::i32, x);
  ONDOL_CHECK(x.ndim() == 3 && rows.ndim() == 2 && rows.size(0) == x.size(0), "[", op, "] x has shape ", x.shape(),
              ", rows ", rows.shape(), ": (B, T, C) and (B, P) are needed");
  const Tensor table = x.contiguous(), places = rows.contiguous();
  check_range_on_host(op, "row", places, x.size(1));
  Tensor out = Tensor::empty({x.size(0), rows.size(1), x.size(2)}, x.dtype(), x.device());
  if (out.numel() == 0) return out;
  run_kernel(&KernelTable::embedding, x.device(), x.dtype(),
             EmbeddingArgs{table.raw(),
                           places.data<int32_t>(),
                           out.raw(),
                           places.numel(),
                           x.size(0) * x.size(1),
                           x.size(2),
                           {rows.size(1), x.size(1)}});
  return out;
}

Tensor take_rows_backward(const Tensor& grad_output, const Tensor& rows, int64_t length) {
  constexpr const char* op = "take_rows_backward";
  check_data(op, "grad_output", grad_output);
  check_dtype(op, "rows", rows, DType::i32, grad_output);
  ONDOL_CHECK(grad_output.ndim() == 3 && rows.ndim() == 2 && rows.size(0) == grad_output.size(0) &&
                  rows.size(1) == grad_output.size(1),
              "[", op, "] grad_output has shape ", grad_output.shape(), ", rows ", rows.shape());
  const Tensor grads = grad_output.contiguous(), places = rows.contiguous();
  check_range_on_host(op, "row", places, length);
  const int64_t batch = rows.size(0), hidden = grad_output.size(2);
  Tensor grad = Tensor::empty({batch, length, hidden}, DType::f32, grads.device());
  if (grad.numel() == 0) return grad;
  run_kernel(&KernelTable::embedding_backward, grads.device(), grads.dtype(),
             EmbeddingBackwardArgs{grads.raw(),
                                   places.data<int32_t>(),
                                   grad.data<float>(),
                                   places.numel(),
                                   batch * length,
                                   hidden,
                                   /*padding_idx=*/-1,
                                   /*accumulate=*/false,
                                   {rows.size(1), length}});
  return grad;
}

}  // namespace ondol::ops
