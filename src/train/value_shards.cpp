#include "train/value_shards.h"

#include <algorithm>
#include <exception>

#include "tensor/give_back.h"
#include "train/held_parts.h"

namespace ondol {

ValueShards::ValueShards(const ParameterStore& store, std::shared_ptr<const Sharding> sharding)
    : store_(store), sharding_(std::move(sharding)), groups_(store.layers().size() + 1) {
  for (size_t layer = 0; layer < store.layers().size(); ++layer) {
    for (const Variable& parameter : *store.layers()[layer]) group_of_parameter_[parameter.id()] = layer;
  }
  const auto& entries = store.entries();
  for (const ParameterStore::Entry& entry : entries) {
    if (!entry.base.defined()) continue;
    throw UsageError("parallel.zero_stage 3 and objective.embedding_sharing \"disentangled\" do not go together",
                     "take zero_stage 2, or share the embeddings");
  }
  for (const ShardRange& range : sharding_->layout().ranges()) {
    if (range.chunk == 0) continue;
    const auto found = std::find_if(entries.begin(), entries.end(), [&](const ParameterStore::Entry& entry) {
      return entry.trainable && range.begin >= entry.offset && range.begin < entry.offset + entry.shape.numel();
    });
    ONDOL_CHECK(found != entries.end(), "a range of the shard layout belongs to no parameter");
    const auto group = group_of_parameter_.find(found->variable.id());
    Group& owner = group == group_of_parameter_.end() ? groups_.back() : groups_[group->second];
    owner.ranges.push_back(range);
    const auto entry = static_cast<size_t>(found - entries.begin());
    if (owner.entries.empty() || owner.entries.back() != entry) owner.entries.push_back(entry);
  }
  next_visit_.assign(2 * groups_.size(), kUnknown);
}

/// Nobody is left to gather anything from; the model may live on.
ValueShards::~ValueShards() {
  for (const Group& group : groups_) {
    if (group.state == Group::State::here) withhold(group, false);
  }
}

void ValueShards::withhold(const Group& group, bool withheld) const {
  for (const size_t i : group.entries) {
    const ParameterStore::Entry& entry = store_.entries()[i];
    const std::string* const name = withheld ? &entry.name : nullptr;
    entry.variable.withhold(name);
    for (const ParameterStore::SharedParameter& pair : store_.shared()) {
      if (pair.own.same_as(entry.variable)) pair.other.withhold(name);
    }
  }
}

void ValueShards::fetch(Group& group) {
  if (group.state != Group::State::away) return;
  group.state = Group::State::coming;
  for (const ShardRange& range : group.ranges) {
    group.under_way.push_back(sharding_->gather(store_.flat_values(), range));
  }
}

void ValueShards::await(Group& group) {
  fetch(group);
  if (group.state == Group::State::here) return;
  for (const CommEvent& event : group.under_way) event.wait();
  group.under_way.clear();
  group.state = Group::State::here;
  withhold(group, false);
}

void ValueShards::give_back_group(Group& group) {
  if (group.state == Group::State::away) return;
  if (group.state == Group::State::coming) await(group);
  const Tensor& flat = store_.flat_values();
  const ShardLayout& layout = sharding_->layout();
  for (const ShardRange& range : group.ranges) {
    const int64_t before = layout.rank() * range.chunk;
    const int64_t behind = (layout.ranks() - 1 - layout.rank()) * range.chunk;
    give_back(flat.narrow(0, range.begin, before));
    give_back(flat.narrow(0, range.begin + before + range.chunk, behind));
  }
  group.state = Group::State::away;
  withhold(group, true);
}

HeldParts ValueShards::held() const {
  return [this](const WeightSlot& slot) { return held_parts(store_, sharding_->layout(), slot, sharding_->place()); };
}

void ValueShards::release() {
  for (Group& group : groups_) give_back_group(group);
}

size_t ValueShards::group_of(const LayerParameters& layer) const {
  for (const Variable& parameter : *layer) {
    const auto found = group_of_parameter_.find(parameter.id());
    if (found != group_of_parameter_.end()) return found->second;
  }
  return kUnknown;  // of a model that is not trained
}

void ValueShards::enter(const LayerParameters& layer, Direction direction) {
  const size_t group = group_of(layer);
  if (group == kUnknown || whole_) return;
  const size_t visit = 2 * group + direction;
  if (last_visit_ != kUnknown) next_visit_[last_visit_] = visit;
  last_visit_ = visit;
  await(groups_[group]);
  if (next_visit_[visit] != kUnknown) fetch(groups_[next_visit_[visit] / 2]);
}

void ValueShards::leave(const LayerParameters& layer, Direction direction) {
  const size_t group = group_of(layer);
  if (group == kUnknown || whole_) return;
  const size_t next = next_visit_[2 * group + direction];
  if (next == kUnknown || next / 2 != group) give_back_group(groups_[group]);
}

ValueShards::Use::Use(ValueShards* shards) : shards_(shards), exceptions_(std::uncaught_exceptions()) {
  if (shards_ != nullptr) shards_->await(shards_->groups_.back());
}

/// After an error the other ranks are waited for no more.
ValueShards::Use::~Use() noexcept(false) {
  if (shards_ != nullptr && !shards_->whole_ && std::uncaught_exceptions() == exceptions_) shards_->release();
}

ValueShards::Whole::Whole(ValueShards* shards) : shards_(shards), exceptions_(std::uncaught_exceptions()) {
  if (shards_ == nullptr) return;
  for (Group& group : shards_->groups_) shards_->fetch(group);
  for (Group& group : shards_->groups_) shards_->await(group);
  shards_->whole_ = true;
}

ValueShards::Whole::~Whole() noexcept(false) {
  if (shards_ == nullptr) return;
  shards_->whole_ = false;
  if (std::uncaught_exceptions() == exceptions_) shards_->release();
}

}  // namespace ondol
