#include <ondol/autograd/variable.h>

#include <ondol/ops/elementwise.h>

namespace ondol {

namespace {
thread_local Tape* recording_tape = nullptr;
}

void detail::throw_withheld(const std::string& name) {
  throw Error(concat("the values of parameter \"", name, "\" are used where this process does not hold them"));
}

Variable::Variable(Tensor value, bool requires_grad) : node_(new detail::VariableNode()) {
  node_->value = std::move(value);
  node_->requires_grad = requires_grad;
}

void Variable::add_grad(const Tensor& gradient) const {
  ONDOL_CHECK(gradient.shape() == node_->value.shape(), "[add_grad] gradient ", gradient.shape(), " for a value ",
              node_->value.shape());
  ++node_->grad_writes;
  if (node_->keeps_grad_buffer) {
    if (node_->has_grad) {
      ops::accumulate(node_->grad, gradient.contiguous());
    } else {
      node_->grad.copy_from(gradient);
    }
  } else if (!node_->has_grad) {
    node_->grad = gradient;
  } else if (node_->grad.unique() && node_->grad.is_contiguous()) {
    ops::accumulate(node_->grad, gradient.contiguous());
  } else {
    node_->grad = ops::add(node_->grad, gradient);  // somebody else holds the first gradient
  }
  node_->has_grad = true;
}

GradientTarget Variable::grad_target() const {
  ++node_->grad_writes;
  if (!node_->keeps_grad_buffer && !(node_->has_grad && node_->grad.dtype() == DType::f32)) {
    Tensor fresh = Tensor::empty(node_->value.shape(), DType::f32, node_->value.device());
    const bool accumulate = node_->has_grad;
    if (accumulate) fresh.copy_from(node_->grad);
    node_->grad = std::move(fresh);
    node_->has_grad = true;
    return {node_->grad, accumulate};
  }
  return {node_->grad, std::exchange(node_->has_grad, true)};
}

Tensor Variable::take_grad() const {
  if (!node_->has_grad) return {};
  node_->has_grad = false;
  return node_->keeps_grad_buffer ? node_->grad : std::move(node_->grad);
}

void Variable::set_grad_buffer(Tensor buffer) const {
  ONDOL_CHECK(buffer.shape() == node_->value.shape() && buffer.dtype() == DType::f32, "[set_grad_buffer] f32 ",
              node_->value.shape(), " expected, got ", dtype_name(buffer.dtype()), " ", buffer.shape());
  node_->grad = std::move(buffer);
  node_->keeps_grad_buffer = true;
  node_->has_grad = false;
}

void Variable::clear_grad() const {
  node_->has_grad = false;
  if (!node_->keeps_grad_buffer) node_->grad = Tensor();
}

Tape::Tape() : previous_(recording_tape) { recording_tape = this; }

Tape::~Tape() {
  clear();
  recording_tape = previous_;
}

Tape* Tape::current() { return recording_tape; }

void* Tape::allocate(size_t bytes) {
  bytes = (bytes + alignof(std::max_align_t) - 1) / alignof(std::max_align_t) * alignof(std::max_align_t);
  ONDOL_CHECK(bytes <= kChunkBytes, "[tape] a closure of ", bytes, " bytes is too large");
  if (chunk_used_ + bytes > kChunkBytes) {
    chunks_.push_back(std::make_unique_for_overwrite<std::byte[]>(kChunkBytes));
    chunk_used_ = 0;
  }
  void* place = chunks_.back().get() + chunk_used_;
  chunk_used_ += bytes;
  return place;
}

void Tape::clear() {
  while (!entries_.empty()) {
    const Entry entry = entries_.back();
    entries_.pop_back();
    entry.destroy(entry.closure);
  }
  chunks_.clear();
  chunk_used_ = kChunkBytes;
}

void Tape::backward(const Variable& loss) {
  ONDOL_CHECK(loss.value().numel() == 1, "[backward] the loss must have one element, it has shape ", loss.shape());
  backward(loss, Tensor::full(loss.shape(), 1.0, loss.dtype(), loss.device()));
}

void Tape::backward(const Variable& output, const Tensor& gradient) {
  const NoGrad pause;
  output.add_grad(gradient);
  while (!entries_.empty()) {
    const Entry entry = entries_.back();
    entries_.pop_back();
    struct Destroy {
      const Entry& entry;
      ~Destroy() { entry.destroy(entry.closure); }
    } destroy{entry};
    entry.run(entry.closure);
  }
  clear();
}

NoGrad::NoGrad() : suspended_(std::exchange(recording_tape, nullptr)) {}
NoGrad::~NoGrad() { recording_tape = suspended_; }

}  // namespace ondol
