#include "ops/output_rows.h"

#include <algorithm>
#include <vector>

#include <ondol/ops/elementwise.h>
#include <ondol/ops/embedding.h>
#include <ondol/ops/matmul.h>
#include <ondol/ops/reduce.h>

#include "backend/backend.h"
#include "ops/checks.h"
#include "ops/index_checks.h"

namespace ondol::ops {

Tensor CountingRows::gather(const Tensor& x) const { return kept.defined() ? embedding(x, kept) : x; }

Tensor CountingRows::gather_indices(const Tensor& x) const {
  if (!kept.defined()) return x;
  const int64_t width = x.numel() / x.size(0);
  std::vector<int32_t> chosen;
  for (const int32_t row : kept.to_vector<int32_t>()) {
    const int32_t* values = x.data<int32_t>() + row * width;
    chosen.insert(chosen.end(), values, values + width);
  }
  Shape shape = x.shape();
  shape.set(0, count());
  return Tensor::from_vector(chosen, shape);
}

Tensor CountingRows::spread(const Tensor& x) const {
  if (!places.defined()) return x;
  x.narrow(0, count(), 1).zero();
  return embedding(x, places);
}

CountingRows find_counting_rows(const Tensor& labels, int32_t ignore_index) {
  const int64_t rows = labels.numel();
  if (labels.device().type != DeviceType::cpu) return {labels.reshape({rows}), {}, {}};
  const int32_t* values = labels.data<int32_t>();
  std::vector<int32_t> kept, kept_labels, places(static_cast<size_t>(rows));
  for (int64_t i = 0; i < rows; ++i) {
    if (values[i] == ignore_index) continue;
    kept.push_back(static_cast<int32_t>(i));
    kept_labels.push_back(values[i]);
  }
  const int32_t count = static_cast<int32_t>(kept.size());
  if (count == rows) return {labels.reshape({rows}), {}, {}};
  std::fill(places.begin(), places.end(), count);
  for (int32_t i = 0; i < count; ++i) places[static_cast<size_t>(kept[static_cast<size_t>(i)])] = i;
  return {Tensor::from_vector(kept_labels, {count}), Tensor::from_vector(kept, {count}),
          Tensor::from_vector(places, {rows})};
}

int64_t default_chunk_rows(int64_t rows, int64_t vocab_size, Device device) {
  const auto bytes = static_cast<int64_t>(backend(device.type).chunk_bytes);
  const int64_t limit = std::max<int64_t>(bytes / (4 * vocab_size) / 64 * 64, 128);
  const int64_t chunks = std::max<int64_t>(1, (rows + limit - 1) / limit);
  return std::max<int64_t>(1, (rows + chunks - 1) / chunks);
}

Tensor check_labels(const char* op, const Tensor& labels, const Tensor& like, int64_t rows, int64_t vocab_size,
                    int32_t ignore_index) {
  check_dtype(op, "labels", labels, DType::i32, like);
  ONDOL_CHECK(labels.numel() == rows, "[", op, "] labels have shape ", labels.shape(), " for ", rows, " rows");
  const Tensor places = labels.contiguous();
  check_range_on_host(op, "label", places, vocab_size, ignore_index);
  return places;
}

const float* factor_of(const char* op, const LossScale& scale, const Tensor& like) {
  if (!scale.factor.defined()) return nullptr;
  check_dtype(op, "scale", scale.factor, DType::f32, like);
  ONDOL_CHECK(scale.factor.numel() == 1, "[", op, "] scale has shape ", scale.factor.shape(),
              ": one element is needed");
  return scale.factor.data<float>();
}

Tensor scaled_sum(const Tensor& losses, const LossScale& factor) {
  const Tensor total = scale(sum(losses, 0), factor.value);
  return factor.factor.defined() ? mul(total, factor.factor.reshape(total.shape())) : total;
}

ChunkedProjection::ChunkedProjection(const char* op, const Tensor& hidden, const Tensor& weight, const Tensor& labels,
                                   const OutputProjectionOptions& options)
    : op_(op), hidden_(hidden), weight_(weight), options_(options) {
  check_data(op, "hidden", hidden);
  check_like(op, "weight", weight, "hidden", hidden);
  const int64_t hidden_size = last_size(op, "hidden", hidden);
  ONDOL_CHECK(weight.ndim() == 2 && weight.size(1) == hidden_size && weight.size(0) > 0, "[", op, "] weight has shape ",
              weight.shape(), ", hidden ", hidden.shape(), ": last dimensions differ");
  if (options.bias.defined()) {
    check_like(op, "bias", options.bias, "hidden", hidden);
    check_shape(op, "bias", options.bias, {vocab_size()});
  }
  all_rows_ = leading_size(hidden.shape());
  counting_ = find_counting_rows(check_labels(op, labels, hidden, all_rows_, vocab_size(), options.ignore_index),
                                 options.ignore_index);
  chunk_ = options.chunk_rows > 0 ? std::min(options.chunk_rows, rows())
                                  : default_chunk_rows(rows(), vocab_size(), hidden.device());
}

OutputProjectionGradients ChunkedProjection::make_gradients() const {
  OutputProjectionGradients made;
  const Device device = hidden_.device();
  if (options_.weight_gradient) {
    made.grad_weight =
        options_.grad_weight.defined() ? options_.grad_weight : Tensor::empty(weight_.shape(), DType::f32, device);
    check_shape(op_, "grad_weight", made.grad_weight, weight_.shape());
    if (rows() == 0 && !options_.accumulate_weight) made.grad_weight.zero();
  }
  if (options_.bias.defined()) made.grad_bias = Tensor::zeros({vocab_size()}, DType::f32, device);
  made.grad_hidden = Tensor::empty({counting_.rows_to_spread(), weight_.size(1)}, hidden_.dtype(), device);
  return made;
}

OutputProjectionGradients ChunkedProjection::run(const std::function<void(const Tensor&, int64_t)>& turn) const {
  const Device device = hidden_.device();
  const Tensor hidden = counting_.gather(hidden_.contiguous().reshape({all_rows_, weight_.size(1)}));
  OutputProjectionGradients result;  // grad_hidden: of the rows that count, until the end
  if (options_.gradients) result = make_gradients();
  const bool narrow = options_.gradients && hidden.dtype() != DType::f32;
  const Tensor logits_buffer = Tensor::empty({chunk_, vocab_size()}, DType::f32, device);
  const Tensor narrow_buffer = narrow ? Tensor::empty({chunk_, vocab_size()}, hidden.dtype(), device) : Tensor();
  const Tensor bias = options_.bias.defined() ? options_.bias.to(DType::f32) : Tensor();

  for (int64_t begin = 0; begin < rows(); begin += chunk_) {
    const int64_t count = std::min(chunk_, rows() - begin);
    const Tensor hidden_chunk = hidden.narrow(0, begin, count), logits = logits_buffer.narrow(0, 0, count);
    matmul_into(logits, hidden_chunk, weight_.transpose(0, 1), false);
    if (bias.defined()) accumulate(logits, bias.expand(logits.shape()));
    turn(logits, begin);
    if (!options_.gradients) continue;
    if (bias.defined()) sum_rows_into(result.grad_bias, logits, true);
    Tensor grad_logits = logits;
    if (narrow) {
      grad_logits = narrow_buffer.narrow(0, 0, count);
      grad_logits.copy_from(logits);
    }
    matmul_into(result.grad_hidden.narrow(0, begin, count), grad_logits, weight_, false);
    if (!options_.weight_gradient) continue;
    linear_backward_weight_into(result.grad_weight, grad_logits, hidden_chunk, begin > 0 || options_.accumulate_weight);
  }
  if (options_.gradients) result.grad_hidden = counting_.spread(result.grad_hidden).reshape(hidden_.shape());
  return result;
}

}  // namespace ondol::ops
