// Parameters: where the weights of a model live.
//
//   ParameterStore store;
//   Variable w = store.add("mlp.up_proj.weight", {256, 64}, Init::normal(0.02f));
//   store.materialize(DType::bf16, device);               // one flat buffer; w.value() is a view of it
//
// All parameters lie in one flat buffer, matrices (two or more dimensions) before vectors, so that the optimizer,
// clipping and checkpoints work on a few long arrays. Each matrix begins at a multiple of 256 elements, each vector at
// one of 16. Those that are not trained (set_trainable) lie behind the others: gradients, master weights and optimizer
// state cover the first trainable_elements() of the buffer and nothing else.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include <ondol/autograd/variable.h>
#include <ondol/nn/parameter_split.h>

namespace ondol {

struct Init {
  enum class Kind { constant, normal, uniform } kind = Kind::constant;
  float value = 0.0f;     // constant: the value; normal: standard deviation; uniform: half the width
  int64_t zero_row = -1;  // of an embedding: the row of padding, which starts as zeros

  int64_t first_rows = 0;  // a random tensor whose first rows, a projection of their own, have another size
  float first_value = 0.0f;

  static Init zeros() { return {}; }
  static Init ones() { return {Kind::constant, 1.0f}; }
  static Init normal(float std) { return {Kind::normal, std}; }
  static Init uniform(float bound) { return {Kind::uniform, bound}; }
  Init with_zero_row(int64_t row) const {
    Init changed = *this;
    changed.zero_row = row;
    return changed;
  }
  Init with_first_rows(int64_t rows, float size) const {
    Init changed = *this;
    changed.first_rows = rows;
    changed.first_value = size;
    return changed;
  }
};

/// One tensor of a model file as a part of a parameter: rows [row_start, row_start + row_count) of its first dimension
/// (row_count < 0: all), transposed (the last two dimensions swapped) in the file when `transposed`.
struct WeightSlot {
  std::string name;  // in the file
  Variable parameter;
  int64_t row_start = 0;
  int64_t row_count = -1;
  bool transposed = false;
  Shape shape;  // in the file, also where this process holds a part of it

  /// A part of the file's tensor that this process holds (tensor parallelism): `length` indices of its dimension
  /// split_dim from `whole` on, which are those from `own` on of view(). None: it holds the whole tensor.
  struct Piece {
    int64_t own = 0, whole = 0, length = 0;
  };
  int split_dim = 0;
  std::vector<Piece> pieces = {};
  int copies = 1, copy = 0;  // of ParameterSplit

  /// The view of `whole` (a tensor with the parameter's shape: value, gradient, optimizer state) that the file tensor
  /// stands for, in the file's layout.
  Tensor view(const Tensor& whole) const;
  /// Copies rows [row, row + n) of the file's tensor (a scalar whole), as far as they are there, into view(..).
  void take(const Tensor& view, const Tensor& rows, int64_t row) const;
};

/// The parameters of one layer of a stack: nothing but that layer uses them.
using LayerParameters = std::shared_ptr<const std::vector<Variable>>;

class ParameterStore {
 public:
  static constexpr int64_t kAlignment = 16;
  static constexpr int64_t kBlock = 256;  // of matrices, which can so be cut into whole blocks for several processes

  /// Registers a parameter; its value is undefined until materialize.
  Variable add(const std::string& name, const Shape& shape, const Init& init);

  /// Parameters registered from here to end_layer() are those of one layer (run_as_layer in models/input.h).
  LayerParameters begin_layer();
  void end_layer() { open_layer_.reset(); }
  /// In the order of registration, those of absorbed stores behind the own ones.
  const std::vector<LayerParameters>& layers() const { return layers_; }

  /// Registers values that belong to the model but are not trained, nor counted; they lie outside the flat buffer and
  /// are 0 when a file leaves them out.
  Variable add_buffer(const std::string& name, const Shape& shape, const Init& init);

  /// Registers a parameter of the training alone (a projection that a loss needs, an adapter): it lies in the same flat
  /// buffers, but is no tensor of the model's files. A second call with the same name and shape gives the same one.
  Variable add_extra(const std::string& name, const Shape& shape, const Init& init);
  /// Throws Error when there is none of that name.
  Variable extra(const std::string& name) const;

  struct Entry {
    std::string name;
    Shape shape;
    Init init;
    Variable variable;
    int64_t offset = 0;
    bool trainable = true;
    bool extra = false;                                // of add_extra
    Variable base = {};                                // of set_base
    std::shared_ptr<const ParameterSplit> split = {};  // of split(): shape and variable are this process's part
    int64_t whole_offset = 0;                          // its place in the buffers of a process that holds all

    /// Of the parameter in such a process.
    const Shape& whole_shape() const { return split == nullptr ? shape : split->whole; }
    /// The part of a flat tensor in the layout of the store that is this parameter's.
    Tensor slice(const Tensor& flat) const;
    /// The whole of it under its own name, as a tensor of a file.
    WeightSlot slot() const { return {name, variable, 0, -1, false, shape}; }
    /// Whether checkpoints need it beside the model's files.
    bool is_extra() const { return extra || base.defined(); }
  };

  /// Takes over the parameters of another model's store, as extras named `prefix` + name, so that one optimizer trains
  /// both models. `other`, which must live as long as this store, then shows this store's buffers. Parameters of
  /// `other` that are named in `shared` are none: their values are those of this store's (tie_gradients joins the
  /// gradients).
  struct SharedParameter {
    Variable other, own;
  };
  void absorb(const std::string& prefix, ParameterStore& other, const std::vector<SharedParameter>& shared = {});
  bool is_absorbed() const { return host_ != nullptr; }
  /// Parameters of absorbed stores that show values of this one's.
  const std::vector<SharedParameter>& shared() const { return shared_; }
  /// Records on the tape, before a forward, that gradients of shared parameters of the other model count as this one's.
  void tie_gradients() const;

  /// Makes a parameter's value `base` + what the flat buffer holds for it, where gradients reach the second summand
  /// alone (embeddings with a disentangled gradient, He et al. 2023). A model's files have the sum, checkpoints the
  /// summand.
  void set_base(const Variable& parameter, const Variable& base);
  /// Writes those sums again, after values of the flat buffer have changed.
  void refresh_sums() const;
  /// The other way: summands are chosen such that the sums are what the parameters hold.
  void keep_sums() const;

  /// Decides, before materialize, which of the parameters registered so far are trained; without it all are. From
  /// materialize on the others take no gradient, and a backward does not go below the lowest one that is trained.
  void set_trainable(const std::function<bool(const Entry&)>& trainable);

  /// Before materialize: this process holds a part of the parameter (models/tensor_parallel.h). Its values are drawn as
  /// those of the whole would be. In the flat buffers split parameters are neighbours: elements
  /// [split_begin(), split_end()) of what is trained; every process of the group holds the others whole.
  void split(const Variable& parameter, const ParameterSplit& part);
  bool is_split() const;
  int64_t split_begin() const { return split_begin_; }
  int64_t split_end() const { return split_end_; }
  /// trainable_elements() of a process that holds all of every parameter.
  int64_t whole_trainable_elements() const { return whole_trainable_elements_; }

  /// Throws UsageError when a parameter that is trained is kept as quantised rows (Variable::set_quantized).
  void check_trainable() const;
  /// Allocates the flat buffer and makes every parameter that is not quantised a view of it. Values are uninitialised,
  /// but for those of buffers that had some.
  void materialize(DType dtype, Device device);
  /// Draws every parameter from its Init: Philox keyed by (seed, hash of the name, element), computed in f32 and
  /// rounded.
  void initialize(uint64_t seed);
  /// The same for those of add_extra alone.
  void initialize_extras(uint64_t seed);
  /// Allocates the flat f32 gradient buffer; the gradients of what is trained become views of it.
  void enable_gradients();
  /// Marks all gradients as absent. Parameters that take no part in a backward are zeroed by finish_gradients.
  void clear_gradients();
  void finish_gradients();
  /// Gives what is trained slices of another flat gradient buffer (same layout), for sums over micro-batches.
  void use_gradient_buffer(const Tensor& flat);

  const Tensor& flat_values() const { return host_ != nullptr ? host_->values_ : values_; }
  const Tensor& flat_gradients() const { return gradients_; }
  /// Elements of the flat buffer, padding included; the first trainable_elements() of them are trained, of which the
  /// first matrix_elements() belong to matrices.
  int64_t flat_elements() const { return flat_elements_; }
  int64_t trainable_elements() const { return trainable_elements_; }
  int64_t matrix_elements() const { return matrix_elements_; }
  /// The part of flat_values() that is trained.
  Tensor trainable_values() const { return values_.narrow(0, 0, trainable_elements_); }
  /// Number of weights of the whole model, without padding; of those that are trained.
  int64_t count() const;
  int64_t trainable_count() const;

  const std::vector<Entry>& entries() const { return host_ != nullptr ? host_->entries_ : entries_; }

 private:
  Entry* find(const Variable& parameter);
  void place_whole();

  std::vector<Entry> entries_;
  std::vector<Entry> buffers_;
  std::vector<SharedParameter> shared_;
  std::vector<LayerParameters> layers_;
  std::shared_ptr<std::vector<Variable>> open_layer_;  // between begin_layer and end_layer
  const ParameterStore* host_ = nullptr;               // that has absorbed this one
  std::unordered_set<std::string> names_;
  Tensor values_;
  Tensor gradients_;
  int64_t flat_elements_ = 0;
  int64_t trainable_elements_ = 0;
  int64_t matrix_elements_ = 0;
  int64_t split_begin_ = 0, split_end_ = 0;
  int64_t whole_trainable_elements_ = 0;
};

}  // namespace ondol
