#include <ondol/data/data_loader.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <numeric>

#include <ondol/base/error.h>
#include <ondol/data/mixture.h>
#include <ondol/data/permutation.h>

#include "base/json_reader.h"
#include "data/source_files.h"

namespace ondol {

namespace {

constexpr uint32_t kShuffleStream = 0x0da7a000;  // apart from the streams of initialisation and dropout
constexpr int kStateVersion = 1;

std::string hexadecimal(uint64_t value) {
  char text[20];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

std::vector<double> weights_of(const std::vector<detail::OpenedSource>& sources) {
  std::vector<double> weights;
  for (const auto& source : sources) weights.push_back(source.weight);
  return weights;
}

std::vector<double> final_weights_of(const std::vector<detail::OpenedSource>& sources) {
  std::vector<double> weights;
  for (const auto& source : sources) weights.push_back(source.final_weight);
  return weights;
}

// What decides which sample has which number, besides the data.
uint64_t order_fingerprint(const DataConfig& config, DataSplit split,
                           const std::vector<detail::OpenedSource>& sources) {
  uint64_t value = mix_fingerprint(0, static_cast<uint64_t>(config.sequence_length));
  const bool shuffle = config.shuffle && split == DataSplit::train;
  for (const bool flag : {config.packing, shuffle, split == DataSplit::train, !config.validation.empty()}) {
    value = mix_fingerprint(value, static_cast<uint64_t>(flag));
  }
  value = mix_fingerprint(value, shuffle ? config.shuffle_seed : 0);
  value = mix_fingerprint(value, std::bit_cast<uint64_t>(config.validation_fraction));
  if (config.pairs.task != SentencePairSettings::none) {
    value = mix_fingerprint(value, static_cast<uint64_t>(config.pairs.task));
    value = mix_fingerprint(value, std::bit_cast<uint64_t>(config.pairs.short_fraction));
    value = mix_fingerprint(value, static_cast<uint64_t>(config.pairs.same_each_epoch));
    value = mix_fingerprint(value, config.shuffle_seed);
  }
  for (const double weight : weights_of(sources)) value = mix_fingerprint(value, std::bit_cast<uint64_t>(weight));
  if (final_weights_of(sources) == weights_of(sources)) return value;
  for (const double weight : final_weights_of(sources)) value = mix_fingerprint(value, std::bit_cast<uint64_t>(weight));
  value = mix_fingerprint(value, static_cast<uint64_t>(config.mixture_samples));
  return value;
}

}  // namespace

struct DataLoader::State {
  State(const DataConfig& config, DataSplit split, const DataContext& context)
      : sources(detail::open_sources(config, split, context)),
        mixture(weights_of(sources), final_weights_of(sources), config.mixture_samples),
        shuffle(config.shuffle && split == DataSplit::train),
        seed(config.shuffle_seed),
        order(order_fingerprint(config, split, sources)) {
    for (const auto& source : sources) data = mix_fingerprint(data, source.fingerprint);
  }

  // The sample of source s that has number `count` in the endless sequence of its epochs.
  int64_t index_of(size_t s, int64_t count) const {
    const int64_t n = sources[s].samples->size();
    const int64_t first = sources[s].samples->changes_each_epoch() ? count / n * n : 0;
    if (!shuffle) return first + count % n;
    const uint32_t epoch = static_cast<uint32_t>(count / n);
    return first + Permutation(n, {seed, kShuffleStream + static_cast<uint32_t>(s), epoch})(count % n);
  }

  std::vector<detail::OpenedSource> sources;
  Mixture mixture;
  bool shuffle;
  uint64_t seed;
  uint64_t order;
  uint64_t data = 0;
};

DataLoader::DataLoader(const DataConfig& config, DataSplit split, const DataContext& context)
    : state_(std::make_unique<State>(config, split, context)) {}
DataLoader::~DataLoader() = default;
DataLoader::DataLoader(DataLoader&&) noexcept = default;
DataLoader& DataLoader::operator=(DataLoader&&) noexcept = default;

Batch DataLoader::next(int64_t samples, int64_t first_row, int64_t rows) {
  if (rows < 0) rows = samples - first_row;
  ONDOL_CHECK(samples > 0 && first_row >= 0 && rows >= 0 && first_row + rows <= samples, "[data] no rows ", first_row,
              "+", rows, " in a batch of ", samples);
  State& state = *state_;
  struct Pick {
    size_t source;
    int64_t index;
  };
  std::vector<Pick> picks;
  picks.reserve(static_cast<size_t>(rows));
  const int64_t first_sample = state.mixture.total() + first_row;
  for (int64_t i = 0; i < samples; ++i) {
    const size_t source = state.mixture.next();
    if (i >= first_row && i < first_row + rows) picks.push_back({source, state.mixture.counts()[source] - 1});
  }
  detail::RowLengths lengths;
  for (Pick& pick : picks) {
    pick.index = state.index_of(pick.source, pick.index);
    lengths.include(state.sources[pick.source].samples->lengths(pick.index));
  }
  Batch batch = state.sources[0].samples->allocate(rows, lengths);
  batch.first_sample = first_sample;
  // One thread copies some 400 million tokens a second from the mapping: no need to wake the pool.
  for (int64_t row = 0; row < rows; ++row) {
    const Pick& pick = picks[static_cast<size_t>(row)];
    state.sources[pick.source].samples->read(pick.index, batch, row);
  }
  return batch;
}

Batch DataLoader::at(std::span<const int64_t> samples) const {
  ONDOL_CHECK(state_->sources.size() == 1, "[data] samples of a mixture have no numbers of their own");
  const detail::SampleSource& source = *state_->sources[0].samples;
  detail::RowLengths lengths;
  for (const int64_t sample : samples) {
    ONDOL_CHECK(sample >= 0 && sample < source.size(), "[data] no sample ", sample, " of ", source.size());
    lengths.include(source.lengths(sample));
  }
  Batch batch = source.allocate(static_cast<int64_t>(samples.size()), lengths);
  batch.first_sample = samples.empty() ? 0 : samples[0];
  for (size_t row = 0; row < samples.size(); ++row) source.read(samples[row], batch, static_cast<int64_t>(row));
  return batch;
}

SampleOrigin DataLoader::origin(int64_t sample) const { return state_->sources[0].samples->origin(sample); }

std::vector<int64_t> DataLoader::by_length(int64_t count) const {
  const detail::SampleSource& source = *state_->sources[0].samples;
  std::vector<int64_t> samples(static_cast<size_t>(count));
  std::iota(samples.begin(), samples.end(), int64_t{0});
  const auto tokens = [&source](int64_t sample) {
    const detail::RowLengths lengths = source.lengths(sample);
    return lengths.longest[0] + lengths.longest[1];
  };
  std::stable_sort(samples.begin(), samples.end(), [&](int64_t a, int64_t b) { return tokens(a) > tokens(b); });
  return samples;
}

int64_t DataLoader::position() const { return state_->mixture.total(); }

int64_t DataLoader::samples_per_epoch() const {
  int64_t total = 0;
  for (const auto& source : state_->sources) total += source.samples->size();
  return total;
}

void DataLoader::reset() { state_->mixture.restore(std::vector<int64_t>(state_->sources.size(), 0)); }

std::string DataLoader::state() const {
  return Json{{"version", kStateVersion},
              {"position", position()},
              {"counters", state_->mixture.counts()},
              {"data", hexadecimal(state_->data)},
              {"order", hexadecimal(state_->order)}}
      .dump();
}

void DataLoader::restore(const std::string& state, bool allow_changed_data) {
  const Json document = parse_json(state, "data state", ErrorKind::failure);
  const JsonReader reader(document, "data state", ErrorKind::failure);
  ONDOL_CHECK(reader.require<int>("version") == kStateVersion, "cannot resume data: unknown version of the state");
  if (!allow_changed_data && reader.require<std::string>("data") != hexadecimal(state_->data)) {
    throw Error("cannot resume data: files, tokenizer or the cut into documents changed since the checkpoint (" +
                    state_->sources[0].name + ")",
                "restore the files, or start anew with --resume never");
  }
  if (!allow_changed_data && reader.require<std::string>("order") != hexadecimal(state_->order)) {
    throw Error(
        "cannot resume data: sequence length, packing, shuffle, weights or validation part differ from those of "
        "the checkpoint",
        "restore the settings, or start anew with --resume never");
  }
  const std::vector<int64_t> counters = reader.require<std::vector<int64_t>>("counters");
  Mixture mixture = state_->mixture;
  mixture.restore(counters);
  ONDOL_CHECK(mixture.total() == reader.require<int64_t>("position"),
              "cannot resume data: position and counters of the state do not agree");
  state_->mixture = mixture;
}

Batch DataLoader::example() const {
  const detail::SampleSource& source = *state_->sources[0].samples;
  Batch batch = source.allocate(1, source.lengths(0));
  for (const Tensor* tensor :
       {&batch.input_ids, &batch.labels, &batch.attention_mask, &batch.document_ids, &batch.positions}) {
    if (tensor->defined()) tensor->zero();
  }
  for (const auto& [name, tensor] : batch.others) tensor.zero();
  return batch;
}

std::string DataLoader::describe() const {
  std::string text;
  for (const auto& source : state_->sources) {
    text += source.name + ": " + source.samples->describe();
    if (state_->sources.size() > 1) text += concat(", weight ", source.weight);
    text += '\n';
  }
  return text;
}

}  // namespace ondol
