// Variables and the tape: reverse-mode differentiation of eager operations.
//
//   Tape tape;                                            // records what this thread computes while it lives
//   Variable loss = functions::linear_cross_entropy(functions::linear(x, {weight}), head, labels, scale);
//   tape.backward(loss);                                  // gradients are in weight.grad()
//
// A Variable is a handle on a value and its gradient. Functions (functions.h) record one closure each; backward runs
// them in reverse order and destroys each one after use, so that activations are freed on the way. Without a Tape
// nothing is recorded or kept. A tape belongs to one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <ondol/tensor/tensor.h>

namespace ondol {

struct QuantizedWeight;  // ops/quantized.h
struct LowRankUpdate;    // autograd/low_rank.h

namespace detail {
struct VariableNode {
  int references = 1;
  bool requires_grad = false;
  bool has_grad = false;
  uint32_t grad_writes = 0;
  bool keeps_grad_buffer = false;  // grad is given memory (a view of the flat gradient buffer), f32
  Tensor value;
  Tensor grad;
  std::shared_ptr<const QuantizedWeight> quantized;
  std::shared_ptr<const LowRankUpdate> low_rank;
  const std::string* withheld = nullptr;  // its name, while the value must not be used
};
[[noreturn]] void throw_withheld(const std::string& name);
}  // namespace detail

/// Where a backward writes a gradient in place: f32, the value's shape; add to what is there when `accumulate`.
struct GradientTarget {
  Tensor tensor;
  bool accumulate = false;
};

class Variable {
 public:
  Variable() = default;
  explicit Variable(Tensor value, bool requires_grad = false);
  Variable(const Variable& other) noexcept : node_(other.node_) {
    if (node_ != nullptr) ++node_->references;
  }
  Variable(Variable&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
  Variable& operator=(Variable other) noexcept {
    std::swap(node_, other.node_);
    return *this;
  }
  ~Variable() {
    if (node_ != nullptr && --node_->references == 0) delete node_;
  }

  bool defined() const { return node_ != nullptr; }
  const Tensor& value() const {
    if (node_->withheld != nullptr) detail::throw_withheld(*node_->withheld);
    return node_->value;
  }
  const Shape& shape() const { return node_->value.shape(); }
  DType dtype() const { return node_->value.dtype(); }
  Device device() const { return node_->value.device(); }
  bool requires_grad() const { return node_ != nullptr && node_->requires_grad; }
  void set_requires_grad(bool wanted) const { node_->requires_grad = wanted; }

  /// The gradient so far; undefined when nothing has arrived.
  Tensor grad() const { return node_->has_grad ? node_->grad : Tensor(); }
  bool has_grad() const { return node_->has_grad; }
  /// How often something has arrived in it, ever.
  uint32_t grad_writes() const { return node_->grad_writes; }
  /// Adds a gradient of the value's shape. The first one is taken over as it is.
  void add_grad(const Tensor& gradient) const;
  /// The place for a gradient that a kernel writes itself; counts as arrived from now on.
  GradientTarget grad_target() const;
  /// Removes and returns the gradient.
  Tensor take_grad() const;

  /// Parameters: a new value, and memory for the gradient (f32, the value's shape) that lasts over steps.
  void set_value(Tensor value) const { node_->value = std::move(value); }
  void set_grad_buffer(Tensor buffer) const;
  /// Parameters whose memory is given back for a while: value() throws, naming the parameter, until this is undone with
  /// null. Shape, dtype, device and gradient stay. The name must live as long.
  void withhold(const std::string* name) const { node_->withheld = name; }
  bool withheld() const { return node_->withheld != nullptr; }
  /// Parameters for inference: quantised rows instead of a value, which stays undefined; linear, embedding and
  /// linear_cross_entropy use them. Null for every other variable.
  void set_quantized(std::shared_ptr<const QuantizedWeight> weight) const { node_->quantized = std::move(weight); }
  /// What linear adds to this weight; null for none.
  void set_low_rank(std::shared_ptr<const LowRankUpdate> update) const { node_->low_rank = std::move(update); }
  const LowRankUpdate* low_rank() const { return node_ == nullptr ? nullptr : node_->low_rank.get(); }
  /// True for two handles on the same variable.
  bool same_as(const Variable& other) const { return node_ == other.node_; }
  /// The same for all handles on it.
  const void* id() const { return node_; }
  const QuantizedWeight* quantized() const { return node_ == nullptr ? nullptr : node_->quantized.get(); }
  /// Forgets the gradient; the memory of set_grad_buffer stays.
  void clear_grad() const;

 private:
  detail::VariableNode* node_ = nullptr;
};

class Tape {
 public:
  /// Starts recording on this thread; the tape before it, if any, resumes when this one ends.
  Tape();
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// The tape that is recording on this thread, or null.
  static Tape* current();

  /// Keeps a closure void() for the backward pass.
  template <class Closure>
  void record(Closure&& closure) {
    using Stored = std::decay_t<Closure>;
    static_assert(alignof(Stored) <= alignof(std::max_align_t));
    void* place = allocate(sizeof(Stored));
    new (place) Stored(std::forward<Closure>(closure));
    entries_.push_back({place, [](void* closure_memory) { (*static_cast<Stored*>(closure_memory))(); },
                        [](void* closure_memory) { static_cast<Stored*>(closure_memory)->~Stored(); }});
  }

  /// Seeds the gradient of `loss` (one element) with 1 and runs the closures in reverse. The tape is empty afterwards.
  void backward(const Variable& loss);
  /// The same from any output and its gradient.
  void backward(const Variable& output, const Tensor& gradient);

 private:
  struct Entry {
    void* closure;
    void (*run)(void*);
    void (*destroy)(void*);
  };
  void* allocate(size_t bytes);
  void clear();

  static constexpr size_t kChunkBytes = 64 << 10;
  std::vector<Entry> entries_;
  std::vector<std::unique_ptr<std::byte[]>> chunks_;
  size_t chunk_used_ = kChunkBytes;
  Tape* previous_ = nullptr;
};

/// Suspends recording on this thread.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  Tape* suspended_;
};

}  // namespace ondol
