#include <ondol/ops/quantized.h>

#include <algorithm>

#include <ondol/ops/elementwise.h>
#include <ondol/ops/loss.h>
#include <ondol/ops/reduce.h>

#include "ops/checks.h"
#include "ops/gemm_epilogue.h"
#include "ops/index_checks.h"
#include "ops/matrix_view.h"

namespace ondol::ops {

namespace {

constexpr int64_t kFewRows = 8;  // more of them are worth dequantised panels
/// Bytes of a panel: on the CPU it stays in the second cache until the product has read it; on a GPU a launch must have
/// work for the whole device.
constexpr int64_t kHostPanel = int64_t{1} << 20;
constexpr int64_t kDevicePanel = int64_t{64} << 20;

void check_matrix(const char* op, const QuantizedMatrix& matrix) {
  const Tensor& blocks = matrix.blocks;
  ONDOL_CHECK(blocks.defined(), "[", op, "] the quantised matrix is undefined");
  ONDOL_CHECK(blocks.dtype() == DType::u8, "[", op, "] blocks hold ", dtype_name(blocks.dtype()), ": u8 is needed");
  check_contiguous(op, "blocks", blocks);
  const int64_t bytes = quantized_row_bytes(matrix.format, matrix.cols);
  ONDOL_CHECK(blocks.ndim() == 2 && blocks.size(1) == bytes, "[", op, "] blocks have shape ", blocks.shape(), ": ",
              quant_format_name(matrix.format), " rows of ", matrix.cols, " weights take ", bytes, " bytes");
}

/// Rows [first, first + out.size(0)) of the matrix, or the rows `ids`.
void run_dequantize(const QuantizedMatrix& matrix, int64_t first, const int32_t* ids, const Tensor& out) {
  if (out.numel() == 0) return;
  DequantizeArgs args{};
  args.blocks = static_cast<const uint8_t*>(matrix.blocks.raw()) + first * matrix.blocks.size(1);
  args.format = matrix.format;
  args.ids = ids;
  args.out = out.raw();
  args.rows = out.numel() / matrix.cols;
  args.cols = matrix.cols;
  args.weight_rows = matrix.rows() - first;
  run_kernel(&KernelTable::dequantize, out.device(), out.dtype(), args);
}

void check_data_dtype(const char* op, DType dtype) {
  ONDOL_CHECK(is_data_dtype(dtype), "[", op, "] dtype ", dtype_name(dtype), ": f32 or bf16 is needed");
}

char* shifted(const void* p, int64_t bytes) {
  return p == nullptr ? nullptr : const_cast<char*>(static_cast<const char*>(p)) + bytes;
}

/// The plain product with a few thousand rows of weights at a time.
void multiply_panels(GemmArgs args, const QuantizedMatrix& weight, const Tensor& x, int64_t element) {
  const int64_t panel_bytes = x.device().type == DeviceType::cpu ? kHostPanel : kDevicePanel;
  const int64_t row_bytes = std::max<int64_t>(weight.cols, 1) * element;
  const int64_t panel_rows = std::clamp<int64_t>(panel_bytes / row_bytes / 64 * 64, 64, weight.rows());
  const Tensor panel = Tensor::empty({panel_rows, weight.cols}, x.dtype(), x.device());
  const GemmArgs whole = args;
  args.b = panel.raw();
  for (int64_t first = 0; first < weight.rows(); first += panel_rows) {
    args.n = std::min(panel_rows, weight.rows() - first);
    run_dequantize(weight, first, nullptr, panel.narrow(0, 0, args.n));
    args.c = shifted(whole.c, first * element);
    args.bias = shifted(whole.bias, first * element);
    args.residual = shifted(whole.residual, first * element);
    run_kernel(&KernelTable::gemm, x.device(), x.dtype(), args);
  }
}

}  // namespace

QuantizedMatrix quantize(const Tensor& weight, QuantFormat format) {
  check_data("quantize", "weight", weight);
  ONDOL_CHECK(weight.ndim() == 2, "[quantize] weight has shape ", weight.shape(), ": two dimensions are needed");
  const int64_t rows = weight.size(0), cols = weight.size(1), bytes = quantized_row_bytes(format, cols);
  const std::vector<float> values = weight.to_vector<float>();
  std::vector<uint8_t> blocks(static_cast<size_t>(rows * bytes));
  for (int64_t row = 0; row < rows; ++row) {
    quantize_row(format, values.data() + row * cols, cols, blocks.data() + row * bytes);
  }
  return {Tensor::from_vector(blocks, {rows, bytes}, weight.device()), format, cols};
}

Tensor dequantize(const QuantizedMatrix& matrix, DType dtype) {
  check_matrix("dequantize", matrix);
  check_data_dtype("dequantize", dtype);
  Tensor out = Tensor::empty({matrix.rows(), matrix.cols}, dtype, matrix.blocks.device());
  run_dequantize(matrix, 0, nullptr, out);
  return out;
}

Tensor dequantize(const QuantizedWeight& weight, DType dtype) {
  ONDOL_CHECK(!weight.parts.empty(), "[dequantize] the weight is undefined");
  if (weight.parts.size() == 1) return dequantize(weight.parts.front(), dtype);
  const Tensor out = Tensor::empty({weight.rows(), weight.cols()}, dtype, weight.parts.front().blocks.device());
  int64_t row = 0;
  for (const QuantizedMatrix& part : weight.parts) {
    out.narrow(0, row, part.rows()).copy_from(dequantize(part, dtype));
    row += part.rows();
  }
  return out;
}

Tensor quantized_linear(const Tensor& x, const QuantizedLinearArguments& arguments) {
  constexpr const char* op = "quantized_linear";
  const QuantizedWeight& weight = arguments.weight;
  check_data(op, "x", x);
  ONDOL_CHECK(!weight.parts.empty(), "[", op, "] the weight is undefined");
  for (const QuantizedMatrix& part : weight.parts) {
    check_matrix(op, part);
    check_dtype(op, "weight", part.blocks, DType::u8, x);
    ONDOL_CHECK(part.cols == weight.cols(), "[", op, "] parts of the weight have ", weight.cols(), " and ", part.cols,
                " columns");
  }
  ONDOL_CHECK(x.ndim() >= 1 && x.size(-1) == weight.cols(), "[", op, "] x has shape ", x.shape(), ", the weight (",
              weight.rows(), ", ", weight.cols(), "): last dimensions differ");
  const Shape shape = with_last(x.shape(), weight.rows());
  Tensor out = Tensor::empty(shape, x.dtype(), x.device());
  Tensor bias, residual;
  if (arguments.bias.defined()) {
    check_like(op, "bias", arguments.bias, "x", x);
    check_shape(op, "bias", arguments.bias, {weight.rows()});
    bias = arguments.bias.contiguous();
  }
  if (arguments.residual.defined()) {
    check_like(op, "residual", arguments.residual, "x", x);
    check_shape(op, "residual", arguments.residual, shape);
    residual = arguments.residual.contiguous();
  }
  GemmArgs args{};
  if (arguments.activation) {
    const std::optional<GemmEpilogue> epilogue = gemm_epilogue(*arguments.activation);
    ONDOL_CHECK(epilogue.has_value(), "[", op, "] the activation must be relu, gelu or silu");
    args.epilogue = *epilogue;
  }
  if (out.numel() == 0) return out;
  const MatrixView rows = rows_view(x);
  const auto element = static_cast<int64_t>(dtype_size(x.dtype()));
  args.a = rows.data();
  args.c_dtype = out.dtype();
  args.trans_b = true;
  args.m = rows.rows;
  args.k = weight.cols();
  args.lda = rows.ld;
  args.ldb = args.k;
  args.ldc = weight.rows();
  args.batch = 1;
  args.alpha = 1.0f;
  int64_t first = 0;
  for (const QuantizedMatrix& part : weight.parts) {
    args.b = part.blocks.raw();
    args.n = part.rows();
    args.c = shifted(out.raw(), first * element);
    args.bias = shifted(bias.raw(), first * element);
    args.residual = shifted(residual.raw(), first * element);
    if (args.m <= kFewRows && can_quantize(part.format)) {
      run_kernel(&KernelTable::quant_gemm, x.device(), x.dtype(), QuantGemmArgs{args, part.format});
    } else {
      multiply_panels(args, part, x, element);
    }
    first += part.rows();
  }
  return out;
}

Tensor quantized_linear_cross_entropy(const Tensor& hidden, const QuantizedWeight& weight, const Tensor& bias,
                                      const Tensor& labels, int32_t ignore_index) {
  constexpr int64_t kLogitBytes = int64_t{32} << 20;
  const int64_t columns = hidden.size(-1);
  const Tensor rows = hidden.contiguous().reshape({-1, columns}), targets = labels.contiguous().reshape({-1});
  const int64_t row_bytes = std::max<int64_t>(weight.rows(), 1) * static_cast<int64_t>(dtype_size(hidden.dtype()));
  const int64_t step = std::max<int64_t>(kLogitBytes / row_bytes, 1);
  Tensor total = Tensor::zeros({1}, DType::f32, hidden.device());
  for (int64_t row = 0; row < rows.size(0); row += step) {
    const int64_t count = std::min(step, rows.size(0) - row);
    QuantizedLinearArguments arguments;
    arguments.weight = weight;
    arguments.bias = bias;
    const Tensor logits = quantized_linear(rows.narrow(0, row, count), arguments);
    const Tensor losses = cross_entropy(logits, targets.narrow(0, row, count), ignore_index).loss;
    total = add(total, sum_f32(losses, 0).reshape({1}));
  }
  return total;
}

Tensor quantized_embedding(const QuantizedMatrix& table, const Tensor& ids, DType dtype) {
  constexpr const char* op = "quantized_embedding";
  check_matrix(op, table);
  check_data_dtype(op, dtype);
  check_dtype(op, "ids", ids, DType::i32, table.blocks);
  ONDOL_CHECK(ids.ndim() < Shape::kMaxDims, "[", op, "] ids have too many dimensions: ", ids.shape());
  int64_t sizes[Shape::kMaxDims];
  for (int d = 0; d < ids.ndim(); ++d) sizes[d] = ids.size(d);
  sizes[ids.ndim()] = table.cols;
  const Shape shape(std::span<const int64_t>(sizes, static_cast<size_t>(ids.ndim() + 1)));
  Tensor out = Tensor::empty(shape, dtype, table.blocks.device());
  const Tensor places = ids.contiguous();
  check_range_on_host(op, "id", places, table.rows());
  run_dequantize(table, 0, places.data<int32_t>(), out);
  return out;
}

}  // namespace ondol::ops
