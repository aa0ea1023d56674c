#include <ondol/nn/parameter.h>

#include <algorithm>

#include <ondol/base/parallel.h>
#include <ondol/base/philox.h>
#include <ondol/ops/elementwise.h>
#include <ondol/ops/quantized.h>

#include "base/fnv1a.h"

namespace ondol {

namespace {

/// The stream of a parameter's random values follows from its name, not from its place.
uint32_t name_hash(const std::string& name) { return Fnv1a<uint32_t>().add(name).value(); }

int64_t round_up(int64_t elements, int64_t multiple) { return (elements + multiple - 1) / multiple * multiple; }

/// What a parameter takes up in the flat buffers.
int64_t padded_size(const Shape& shape) {
  return round_up(shape.numel(), shape.ndim() >= 2 ? ParameterStore::kBlock : ParameterStore::kAlignment);
}

/// Philox keyed by the name and the element of the whole, in f32, rounded to the parameter's dtype.
void draw(const ParameterStore::Entry& entry, uint64_t seed) {
  const Init& init = entry.init;
  if (init.kind == Init::Kind::constant) return entry.variable.value().fill(init.value);
  std::vector<float> drawn(static_cast<size_t>(entry.shape.numel()));
  const PhiloxKey key{seed, name_hash(entry.name), 0};
  const Shape& whole = entry.whole_shape();
  const int64_t row = whole.numel() / std::max<int64_t>(whole[0], 1);  // elements of a row of the whole
  const int64_t own_row = entry.shape.numel() / std::max<int64_t>(entry.shape[0], 1);
  const int64_t first = init.first_rows * row;
  const bool normal = init.kind == Init::Kind::normal;
  const ParameterSplit* split = entry.split.get();
  const std::vector<int64_t> indices = split != nullptr ? split->indices() : std::vector<int64_t>();
  const auto place = [&](int64_t i) {
    if (split == nullptr) return i;
    const int64_t r = i / own_row, c = i % own_row;
    return split->dim == 0 ? indices[static_cast<size_t>(r)] * row + c : r * row + indices[static_cast<size_t>(c)];
  };
  parallel_for(entry.shape.numel(), 4096, [&](int64_t begin, int64_t end) {
    for (int64_t own = begin; own < end; ++own) {
      const int64_t i = place(own);
      const float size = i < first ? init.first_value : init.value;
      float& value = drawn[static_cast<size_t>(own)];
      value = normal ? size * static_cast<float>(philox_normal(key, static_cast<uint64_t>(i)))
                     : size * (2.0f * philox_uniform(key, static_cast<uint64_t>(i)) - 1.0f);
      if (init.zero_row >= 0 && i / row == init.zero_row) value = 0.0f;
    }
  });
  entry.variable.value().copy_from(Tensor::from_vector(drawn, entry.shape, entry.variable.device()));
}

}  // namespace

Tensor ParameterStore::Entry::slice(const Tensor& flat) const {
  return flat.narrow(0, offset, shape.numel()).reshape(shape);
}

Tensor WeightSlot::view(const Tensor& whole) const {
  Tensor part = row_count < 0 ? whole : whole.narrow(0, row_start, row_count);
  return transposed ? part.transpose(-1, -2) : part;
}

void WeightSlot::take(const Tensor& view, const Tensor& rows, int64_t row) const {
  const Device device = view.device();
  if (pieces.empty()) {
    return (rows.ndim() == 0 ? view : view.narrow(0, row, rows.size(0))).copy_from(rows.to(device));
  }
  for (const Piece& piece : pieces) {
    if (split_dim == 1) {
      const Tensor columns = rows.narrow(1, piece.whole, piece.length);
      view.narrow(0, row, rows.size(0)).narrow(1, piece.own, piece.length).copy_from(columns.to(device));
      continue;
    }
    const int64_t begin = std::max(row, piece.whole), end = std::min(row + rows.size(0), piece.whole + piece.length);
    if (begin >= end) continue;
    view.narrow(0, piece.own + begin - piece.whole, end - begin)
        .copy_from(rows.narrow(0, begin - row, end - begin).to(device));
  }
}

Variable ParameterStore::add(const std::string& name, const Shape& shape, const Init& init) {
  ONDOL_CHECK(!values_.defined(), "parameter ", name, " added after materialize");
  ONDOL_CHECK(names_.insert(name).second, "parameter ", name, " added twice");
  entries_.push_back({name, shape, init, Variable(Tensor(), true), 0, true, false});
  if (open_layer_ != nullptr) open_layer_->push_back(entries_.back().variable);
  return entries_.back().variable;
}

LayerParameters ParameterStore::begin_layer() {
  ONDOL_CHECK(open_layer_ == nullptr, "a layer of parameters begins within another one");
  open_layer_ = std::make_shared<std::vector<Variable>>();
  layers_.push_back(open_layer_);
  return open_layer_;
}

Variable ParameterStore::add_extra(const std::string& name, const Shape& shape, const Init& init) {
  if (names_.contains(name)) {
    const Variable before = extra(name);
    for (const Entry& entry : entries_) {
      ONDOL_CHECK(!entry.variable.same_as(before) || entry.shape == shape, "parameter ", name, " has shape ",
                  entry.shape, ", and is wanted as ", shape);
    }
    return before;
  }
  const Variable added = add(name, shape, init);
  entries_.back().extra = true;
  return added;
}

Variable ParameterStore::extra(const std::string& name) const {
  for (const Entry& entry : entries_) {
    if (entry.extra && entry.name == name) return entry.variable;
  }
  throw Error(concat("the model was not extended by a parameter \"", name, "\""));
}

ParameterStore::Entry* ParameterStore::find(const Variable& parameter) {
  for (Entry& entry : entries_) {
    if (entry.variable.same_as(parameter)) return &entry;
  }
  return nullptr;
}

void ParameterStore::absorb(const std::string& prefix, ParameterStore& other,
                            const std::vector<SharedParameter>& shared) {
  ONDOL_CHECK(!values_.defined() && !other.values_.defined(), "parameters ", prefix, "* absorbed after materialize");
  const auto add_renamed = [&](std::vector<Entry>& target, Entry entry, bool extra) {
    entry.name = prefix + entry.name;
    ONDOL_CHECK(names_.insert(entry.name).second, "parameter ", entry.name, " added twice");
    entry.extra = extra;
    target.push_back(std::move(entry));
  };
  for (const Entry& entry : other.entries_) {
    const auto is_entry = [&](const SharedParameter& pair) { return pair.other.same_as(entry.variable); };
    if (std::none_of(shared.begin(), shared.end(), is_entry)) add_renamed(entries_, entry, true);
  }
  for (const Entry& buffer : other.buffers_) add_renamed(buffers_, buffer, false);
  for (const SharedParameter& pair : shared) {
    const Entry* own = find(pair.own);
    const Entry* theirs = other.find(pair.other);
    ONDOL_CHECK(own != nullptr && theirs != nullptr && own->shape == theirs->shape,
                "parameters of different shapes cannot be shared (", prefix, ")");
    shared_.push_back(pair);
  }
  layers_.insert(layers_.end(), other.layers_.begin(), other.layers_.end());
  other.host_ = this;
}

void ParameterStore::tie_gradients() const {
  Tape* tape = Tape::current();
  if (tape == nullptr) return;
  for (const SharedParameter& pair : shared_) {
    tape->record([pair] {
      if (pair.other.has_grad()) pair.own.add_grad(pair.other.take_grad());
    });
  }
}

void ParameterStore::set_base(const Variable& parameter, const Variable& base) {
  Entry* entry = find(parameter);
  const Entry* other = find(base);
  ONDOL_CHECK(!values_.defined() && entry != nullptr && other != nullptr && entry->shape == other->shape,
              "a parameter's base must be another one of its shape, set before materialize");
  entry->base = base;
}

void ParameterStore::refresh_sums() const {
  for (const Entry& entry : entries_) {
    if (!entry.base.defined()) continue;
    entry.variable.value().copy_from(entry.base.value());
    ops::accumulate(entry.variable.value(), entry.slice(values_));
  }
}

void ParameterStore::keep_sums() const {
  for (const Entry& entry : entries_) {
    if (entry.base.defined()) entry.slice(values_).copy_from(ops::sub(entry.variable.value(), entry.base.value()));
  }
}

Variable ParameterStore::add_buffer(const std::string& name, const Shape& shape, const Init& init) {
  ONDOL_CHECK(!values_.defined(), "buffer ", name, " added after materialize");
  ONDOL_CHECK(names_.insert(name).second, "buffer ", name, " added twice");
  buffers_.push_back({name, shape, init, Variable(Tensor(), false), 0, false, false});
  return buffers_.back().variable;
}

void ParameterStore::set_trainable(const std::function<bool(const Entry&)>& trainable) {
  ONDOL_CHECK(!values_.defined(), "what is trained must be decided before materialize");
  for (Entry& entry : entries_) entry.trainable = trainable(entry);
}

void ParameterStore::split(const Variable& parameter, const ParameterSplit& part) {
  Entry* entry = find(parameter);
  ONDOL_CHECK(!values_.defined() && entry != nullptr && entry->split == nullptr && entry->shape == part.whole,
              "a parameter is split once, before materialize");
  entry->shape = part.shape();
  entry->split = std::make_shared<const ParameterSplit>(part);
}

bool ParameterStore::is_split() const {
  return std::any_of(entries_.begin(), entries_.end(), [](const Entry& entry) { return entry.split != nullptr; });
}

/// Where everything would lie in a process that holds all of it.
void ParameterStore::place_whole() {
  int64_t end = 0;
  for (const bool trainable : {true, false}) {
    for (const bool matrices : {true, false}) {
      for (Entry& entry : entries_) {
        if (entry.variable.quantized() != nullptr) continue;
        if (entry.trainable != trainable || (entry.shape.ndim() >= 2) != matrices) continue;
        if (matrices) end = round_up(end, kBlock);
        entry.whole_offset = end;
        end += padded_size(entry.whole_shape());
      }
      if (trainable) whole_trainable_elements_ = end;
    }
  }
}

void ParameterStore::materialize(DType dtype, Device device) {
  int64_t total = 2 * kBlock;  // matrices begin at whole blocks
  for (const Entry& entry : entries_) {
    if (entry.variable.quantized() != nullptr) continue;
    ONDOL_CHECK(!__builtin_add_overflow(total, padded_size(entry.shape), &total),
                "too many weights to count: parameter ", entry.name, " ", entry.shape);
  }
  flat_elements_ = 0;
  const auto place = [&](bool trainable, bool matrices, bool split) {
    for (Entry& entry : entries_) {
      if (entry.trainable != trainable || (entry.shape.ndim() >= 2) != matrices) continue;
      if ((entry.split != nullptr) != split) continue;
      entry.variable.set_requires_grad(trainable);
      if (const QuantizedWeight* weight = entry.variable.quantized()) {
        QuantizedWeight changed = *weight;  // the blocks are shared
        changed.dtype = dtype;
        entry.variable.set_quantized(std::make_shared<const QuantizedWeight>(std::move(changed)));
        continue;
      }
      if (matrices) flat_elements_ = round_up(flat_elements_, kBlock);  // vectors of what is trained may lie before
      entry.offset = flat_elements_;
      flat_elements_ += padded_size(entry.shape);
    }
    return flat_elements_;
  };
  split_begin_ = place(true, true, false);
  matrix_elements_ = place(true, true, true);
  split_end_ = place(true, false, true);
  if (is_split()) split_end_ = flat_elements_ = round_up(flat_elements_, kBlock);
  trainable_elements_ = place(true, false, false);
  for (const bool split : {true, false}) place(false, true, split);
  for (const bool split : {true, false}) place(false, false, split);
  place_whole();
  values_ = Tensor::empty({flat_elements_}, dtype, device);
  values_.zero();  // the padding too, so that whole-buffer passes see defined values
  for (Entry& entry : entries_) {
    if (entry.variable.quantized() != nullptr) continue;
    entry.variable.set_value(entry.base.defined() ? Tensor::empty(entry.shape, dtype, device) : entry.slice(values_));
  }
  for (const SharedParameter& pair : shared_) pair.other.set_value(pair.own.value());
  for (Entry& buffer : buffers_) {
    const Tensor& before = buffer.variable.value();
    buffer.variable.set_value(before.defined() ? before.to(dtype).to(device)
                                               : Tensor::empty(buffer.shape, dtype, device));
  }
}

void ParameterStore::initialize(uint64_t seed) {
  for (const Entry& entry : entries_) draw(entry, seed);
  for (const Entry& buffer : buffers_) draw(buffer, seed);
}

void ParameterStore::initialize_extras(uint64_t seed) {
  for (const Entry& entry : entries_) {
    if (entry.extra) draw(entry, seed);
  }
}

void ParameterStore::check_trainable() const {
  for (const Entry& entry : entries_) {
    if (!entry.trainable || entry.variable.quantized() == nullptr) continue;
    throw UsageError(concat("parameter \"", entry.name, "\" is quantised: the model cannot be trained or saved"),
                     "convert it to f32 or bf16 first: ondol convert SRC DST --dtype bf16");
  }
}

void ParameterStore::enable_gradients() {
  if (!gradients_.defined()) use_gradient_buffer(Tensor::zeros({trainable_elements_}, DType::f32, values_.device()));
}

void ParameterStore::use_gradient_buffer(const Tensor& flat) {
  check_trainable();
  ONDOL_CHECK(flat.numel() == trainable_elements_, "gradient buffer of ", flat.numel(), " elements, ",
              trainable_elements_, " expected");
  gradients_ = flat;
  for (const Entry& entry : entries_) {
    if (entry.trainable) entry.variable.set_grad_buffer(entry.slice(gradients_));
  }
}

void ParameterStore::clear_gradients() {
  for (const Entry& entry : entries_) entry.variable.clear_grad();
}

void ParameterStore::finish_gradients() {
  for (const Entry& entry : entries_) {
    if (entry.trainable && !entry.variable.has_grad()) entry.slice(gradients_).zero();
  }
}

int64_t ParameterStore::count() const {
  int64_t total = 0;
  for (const Entry& entry : entries_) total += entry.whole_shape().numel();
  return total;
}

int64_t ParameterStore::trainable_count() const {
  int64_t total = 0;
  for (const Entry& entry : entries_) total += entry.trainable ? entry.whole_shape().numel() : 0;
  return total;
}

}  // namespace ondol
