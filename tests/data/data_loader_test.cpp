#include <ondol/data/data_loader.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>

#include <gtest/gtest.h>

#include <ondol/base/error.h>
#include <ondol/base/parallel.h>
#include <ondol/data/token_file.h>
#include <ondol/io/safetensors.h>

#include "data/byte_encoder.h"
#include "data/data_config.h"
#include "support/error_of.h"
#include "support/temporary_directory.h"

namespace ondol {
namespace {

using testing::byte_encoder;
using testing::error_of;
using testing::TemporaryDirectory;
using Ids = std::vector<int32_t>;

constexpr int32_t kNone = kIgnoreIndex;

void expect_error(const std::function<void()>& action, const std::string& why) {
  const std::string error = error_of(action);
  EXPECT_NE(error.find(why), std::string::npos) << "expected: " << why << "\n     got: " << error;
  EXPECT_EQ(error.find('\n'), std::string::npos);
}

class DataLoaderTest : public ::testing::Test {
 protected:
  DataContext context() { return {&encoder_, directory_ / "cache", 257, 0}; }
  DataLoader train(const DataConfig& config) { return DataLoader(config, DataSplit::train, context()); }

  // A text of many short lines, every one of them different.
  std::string lines(const std::string& name, int count, const std::string& mark = "") {
    std::string text;
    for (int i = 0; i < count; ++i) text += concat(mark, "line ", i * 7919 % 10007, std::string(i % 13, '.'), "\n");
    return directory_.write(name, text);
  }

  TemporaryDirectory directory_;
  TextEncoder encoder_ = byte_encoder();
};

Ids ints(const Tensor& tensor) { return tensor.defined() ? tensor.to_vector<int32_t>() : Ids(); }

bool same(const Batch& a, const Batch& b) {
  return ints(a.input_ids) == ints(b.input_ids) && ints(a.labels) == ints(b.labels) &&
         ints(a.attention_mask) == ints(b.attention_mask) && ints(a.document_ids) == ints(b.document_ids) &&
         ints(a.positions) == ints(b.positions) && a.first_sample == b.first_sample;
}

TEST_F(DataLoaderTest, PacksDocuments) {
  // Tokens: a b c E | d E | f g h i j E, twelve of them, E = 256.
  directory_.write("a.txt", "abc\nd\nfghij\n");
  DataLoader loader = train(
      {.train = {{directory_ / "a.txt", {}}}, .sequence_length = 5, .shuffle = false, .document_separator = "line"});
  EXPECT_EQ(loader.samples_per_epoch(), 2);
  const Batch batch = loader.next(2);
  EXPECT_EQ(ints(batch.input_ids), (Ids{'a', 'b', 'c', 256, 'd', 256, 'f', 'g', 'h', 'i'}));
  EXPECT_EQ(ints(batch.labels), (Ids{'b', 'c', 256, kNone, 256, kNone, 'g', 'h', 'i', 'j'}));
  EXPECT_EQ(ints(batch.document_ids), (Ids{0, 0, 0, 0, 1, 0, 1, 1, 1, 1}));
  EXPECT_EQ(ints(batch.positions), (Ids{0, 1, 2, 3, 0, 0, 0, 1, 2, 3}));
  EXPECT_FALSE(batch.attention_mask.defined());
  EXPECT_EQ(batch.count_targets(), 8);
  EXPECT_EQ(batch.count_tokens(), 10);
  const Batch second = batch.rows(1, 1);
  EXPECT_EQ(second.first_sample, 1);
  EXPECT_EQ(ints(second.labels), (Ids{kNone, 'g', 'h', 'i', 'j'}));
  EXPECT_EQ(second.count_targets(), 4);
  EXPECT_TRUE(describe_batch(second, [](int32_t id) {
                return std::string(1, static_cast<char>(id));
              }).find("\n  3  i  ") == std::string::npos);
  EXPECT_NE(describe_batch(second).find("  0  102  103  1\n"), std::string::npos) << describe_batch(second);

  DataLoader open = train({.train = {{directory_ / "a.txt", {}}},
                           .sequence_length = 5,
                           .document_mask = false,
                           .shuffle = false,
                           .document_separator = "line"});
  const Batch crossing = open.next(2);
  EXPECT_EQ(ints(crossing.labels), (Ids{'b', 'c', 256, 'd', 256, 'f', 'g', 'h', 'i', 'j'}));
  EXPECT_FALSE(crossing.document_ids.defined());
  EXPECT_FALSE(crossing.positions.defined());
}

TEST_F(DataLoaderTest, PadsSingleDocuments) {
  directory_.write("a.txt", "abc\nd\nfghij\n");
  DataContext with_pad = context();
  with_pad.pad_id = 7;
  DataLoader loader({.train = {{directory_ / "a.txt", {}}},
                     .sequence_length = 4,
                     .packing = false,
                     .shuffle = false,
                     .document_separator = "line"},
                    DataSplit::train, with_pad);
  EXPECT_EQ(loader.samples_per_epoch(), 4);
  const Batch batch = loader.next(4);
  EXPECT_EQ(ints(batch.input_ids), (Ids{'a', 'b', 'c', 256, 'd', 256, 7, 7, 'f', 'g', 'h', 'i', 'j', 256, 7, 7}));
  EXPECT_EQ(ints(batch.labels),
            (Ids{'b', 'c', 256, kNone, 256, kNone, kNone, kNone, 'g', 'h', 'i', 'j', 256, kNone, kNone, kNone}));
  EXPECT_EQ(ints(batch.attention_mask), (Ids{1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0}));
  EXPECT_EQ(batch.count_tokens(), 12);
  EXPECT_EQ(batch.count_targets(), 9);  // every token but the first of each document: 12 - 3
}

// Against a plain reconstruction from the text, for several lengths.
TEST_F(DataLoaderTest, PackedSamplesMatchTheStream) {
  const std::string path = lines("a.txt", 200);
  Ids stream, owner;
  DocumentReader reader(path, {.separator = "line"});
  int document = 0;
  for (DocumentPiece piece; reader.next(piece); ++document) {
    for (const char c : piece.text) stream.push_back(static_cast<unsigned char>(c));
    stream.push_back(256);
    owner.resize(stream.size(), document);
  }
  for (const int64_t length : {1, 3, 10, 64, 1000}) {
    DataLoader loader =
        train({.train = {{path, {}}}, .sequence_length = length, .shuffle = false, .document_separator = "line"});
    const int64_t n = loader.samples_per_epoch();
    EXPECT_EQ(n, (static_cast<int64_t>(stream.size()) - 1) / length);
    const Batch batch = loader.next(n);
    const Ids ids = ints(batch.input_ids), labels = ints(batch.labels), documents = ints(batch.document_ids),
              positions = ints(batch.positions);
    for (int64_t i = 0; i < n * length; ++i) {
      ASSERT_EQ(ids[i], stream[i]);
      ASSERT_EQ(labels[i], owner[i + 1] == owner[i] ? stream[i + 1] : kNone) << i;
      const int64_t row = i / length * length;
      ASSERT_EQ(documents[i], owner[i] - owner[row]);
      const int64_t start = std::max<int64_t>(row, std::find(owner.begin(), owner.end(), owner[i]) - owner.begin());
      ASSERT_EQ(positions[i], i - start);
    }
  }
}

TEST_F(DataLoaderTest, OrderDependsOnNothingButTheSampleNumber) {
  const DataConfig config = {
      .train = {{lines("a.txt", 100), 3.0}, {lines("b.txt", 40, "b"), 1.0}}, .sequence_length = 16, .shuffle_seed = 5};
  DataLoader whole = train(config);
  const Batch all = whole.next(240);
  for (const int64_t size : {1, 7, 16, 48}) {
    DataLoader loader = train(config);
    for (int64_t begin = 0; begin + size <= 240; begin += size) {
      ASSERT_TRUE(same(loader.next(size), all.rows(begin, size))) << size << " at " << begin;
    }
  }
  // Two ranks that read halves of each batch, and a run with one thread.
  DataLoader rank0 = train(config), rank1 = train(config);
  set_num_threads(1);
  for (int64_t begin = 0; begin < 240; begin += 24) {
    ASSERT_TRUE(same(rank0.next(24, 0, 12), all.rows(begin, 12)));
    ASSERT_TRUE(same(rank1.next(24, 12), all.rows(begin + 12, 12)));
  }
  set_num_threads(2);
  DataConfig other = config;
  other.shuffle_seed = 6;
  DataLoader different = train(other);
  EXPECT_FALSE(same(different.next(240), all));
}

TEST_F(DataLoaderTest, EveryEpochShowsEverySampleOnceInANewOrder) {
  DataConfig config = {.train = {{lines("a.txt", 300), {}}}, .sequence_length = 16, .shuffle_seed = 1};
  DataLoader loader = train(config);
  const int64_t n = loader.samples_per_epoch();
  ASSERT_GT(n, 100);
  std::vector<std::vector<Ids>> epochs;
  for (int epoch = 0; epoch < 3; ++epoch) {
    auto& epoch_rows = epochs.emplace_back();
    for (int64_t i = 0; i < n; ++i) epoch_rows.push_back(ints(loader.next(1).input_ids));
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
  for (auto& epoch : epochs) std::sort(epoch.begin(), epoch.end());
  EXPECT_EQ(epochs[0], epochs[1]);
  EXPECT_EQ(epochs[1], epochs[2]);
  config.shuffle = false;
  DataLoader in_file_order = train(config);
  std::vector<Ids> rows;
  for (int64_t i = 0; i < n; ++i) rows.push_back(ints(in_file_order.next(1).input_ids));
  std::sort(rows.begin(), rows.end());
  EXPECT_EQ(rows, epochs[0]);
}

TEST_F(DataLoaderTest, ResumesInTheMiddleOfAnEpoch) {
  const std::string a = lines("a.txt", 100), b = lines("b.txt", 30, "b");
  for (const bool packing : {true, false}) {
    const DataConfig config = {.train = {{a, 0.7}, {b, 0.3}},
                               .sequence_length = 16,
                               .packing = packing,
                               .shuffle_seed = 9,
                               .document_separator = "line"};
    DataLoader undisturbed = train(config);
    for (const int64_t before : {0, 1, 37, 500}) {
      undisturbed.reset();
      DataLoader first = train(config);
      for (int64_t i = 0; i < before; ++i) {
        first.next(3);
        undisturbed.next(3);
      }
      DataLoader second = train(config);
      second.restore(first.state());
      EXPECT_EQ(second.position(), before * 3);
      for (int i = 0; i < 50; ++i) {
        const Batch expected = undisturbed.next(4);
        ASSERT_TRUE(same(second.next(4), expected));
        ASSERT_TRUE(same(first.next(4), expected));
      }
      EXPECT_EQ(second.state(), undisturbed.state());
    }
  }
}

TEST_F(DataLoaderTest, RefusesToResumeOnOtherDataOrSettings) {
  const std::string path = lines("a.txt", 100);
  DataConfig config = {.train = {{path, {}}}, .sequence_length = 16};
  DataLoader loader = train(config);
  loader.next(5);
  const std::string state = loader.state();
  config.sequence_length = 8;
  expect_error([&] { train(config).restore(state); }, "sequence length, packing, shuffle");
  config.sequence_length = 16;
  train(config).restore(state);
  const std::string changed = "changed since the checkpoint (" + path + ")";
  config.document_separator = "line";
  expect_error([&] { train(config).restore(state); }, changed);
  config.document_separator = "file";
  const TextEncoder other = byte_encoder(257, 12);  // another tokenizer of the same size
  DataContext with_other = context();
  with_other.encoder = &other;
  expect_error([&] { DataLoader(config, DataSplit::train, with_other).restore(state); }, changed);
  std::string text = directory_.read("a.txt");
  text[text.size() / 2] ^= 1;
  directory_.write("a.txt", text);
  expect_error([&] { train(config).restore(state); }, changed);
  DataLoader allowed = train(config);
  allowed.restore(state, true);
  EXPECT_EQ(allowed.position(), 5);
  for (const char* bad : {"", "{}", "[]", "{\"version\": 2}"}) {
    expect_error([&] { train(config).restore(bad); }, "data");
  }
}

TEST_F(DataLoaderTest, DamagedTokensAreRefusedAndACacheIsMadeAnew) {
  const std::string path = lines("a.txt", 100);
  const DataConfig config = {.train = {{path, {}}}, .sequence_length = 16, .shuffle = false};
  const Ids expected = ints(train(config).next(4).input_ids);
  std::string cached;
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "cache")) {
    if (entry.path().extension() == ".bin") cached = "cache/" + entry.path().filename().string();
  }
  ASSERT_NE(cached, "");
  std::string tokens = directory_.read(cached);
  tokens[10] ^= 1;
  directory_.write(cached, tokens);
  const DataConfig prepared = {.train = {{directory_ / cached, {}}}, .sequence_length = 16, .shuffle = false};
  expect_error([&] { train(prepared); }, "the checksum of the tokens is wrong");
  EXPECT_EQ(ints(train(config).next(4).input_ids), expected);
}

TEST_F(DataLoaderTest, MixesByWeight) {
  DataLoader loader = train({.train = {{lines("a.txt", 100, "A"), 4.0}, {lines("b.txt", 1000, "B"), 1.0}},
                             .sequence_length = 8,
                             .document_separator = "line"});
  // Documents are shorter than two samples, so that the mark of each source is in most of them; count by content.
  int64_t from_b = 0, marked = 0;
  const Batch batch = loader.next(5000);
  for (int64_t row = 0; row < 5000; ++row) {
    const Ids ids = ints(batch.input_ids.narrow(0, row, 1));
    const bool a = std::count(ids.begin(), ids.end(), 'A') > 0, b = std::count(ids.begin(), ids.end(), 'B') > 0;
    ASSERT_FALSE(a && b);
    marked += a || b;
    from_b += b;
  }
  EXPECT_NEAR(static_cast<double>(from_b) / static_cast<double>(marked), 0.2, 0.01);
}

TEST_F(DataLoaderTest, UnweightedSourcesAreOneCorpus) {
  const std::string a = lines("a.txt", 50);
  const std::string b = directory_.write("b.jsonl", "{\"text\": \"hello world, this is a document\"}\n");
  prepare_tokens(encoder_, {lines("c.txt", 60)}, directory_ / "prepared");
  DataLoader both =
      train({.train = {{a, {}}, {b, {}}, {directory_ / "prepared.bin", {}}}, .sequence_length = 10, .shuffle = false});
  const size_t tokens = directory_.read("a.txt").size() + 1 + 31 + 1 + directory_.read("c.txt").size() + 1;
  EXPECT_EQ(both.samples_per_epoch(), static_cast<int64_t>(tokens - 1) / 10);
  EXPECT_NE(both.describe().find("3 documents"), std::string::npos) << both.describe();
}

TEST_F(DataLoaderTest, TextIsTokenizedOnce) {
  const std::string path = lines("a.txt", 100);
  int calls = 0;
  encoder_.encode = [&calls, inner = encoder_.encode](std::span<const std::string> texts, std::vector<Ids>& ids) {
    ++calls;
    inner(texts, ids);
  };
  const DataConfig config = {.train = {{path, {}}}, .sequence_length = 16};
  const Batch first = train(config).next(8);
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(same(train(config).next(8), first));
  EXPECT_EQ(calls, 1);
  encoder_.fingerprint = 12;  // another tokenizer
  train(config);
  EXPECT_EQ(calls, 2);
  DataConfig by_line = config;
  by_line.document_separator = "line";
  train(by_line);
  EXPECT_EQ(calls, 3);
  // A damaged cache is made anew.
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "cache")) {
    std::filesystem::resize_file(entry.path(), 50);
  }
  encoder_.fingerprint = 11;
  EXPECT_TRUE(same(train(config).next(8), first));
  EXPECT_EQ(calls, 4);
}

TEST_F(DataLoaderTest, SplitsOffValidation) {
  const std::string path = lines("a.txt", 1000);
  DataConfig config = {.train = {{path, {}}}, .validation_fraction = 0.1, .sequence_length = 8, .packing = false};
  config.document_separator = "line";
  DataLoader training = train(config);
  DataLoader validation(config, DataSplit::validation, context());
  config.validation_fraction = 0;
  const int64_t all = train(config).samples_per_epoch();
  EXPECT_EQ(training.samples_per_epoch() + validation.samples_per_epoch(), all);  // cut between documents: none is lost
  EXPECT_NEAR(static_cast<double>(validation.samples_per_epoch()) / static_cast<double>(all), 0.1, 0.005);
  config.document_separator = "file";
  config.validation_fraction = 0.25;  // one document only: cut at a token
  const double tokens = static_cast<double>(directory_.read("a.txt").size() + 1);
  EXPECT_NEAR(static_cast<double>(train(config).samples_per_epoch()), tokens * 0.75 / 8, 1);
  EXPECT_NEAR(static_cast<double>(DataLoader(config, DataSplit::validation, context()).samples_per_epoch()),
              tokens * 0.25 / 8, 1);
  // Validation is not shuffled, and its own files win over the fraction.
  config.validation = {{lines("valid.txt", 20, "v"), {}}};
  DataLoader listed(config, DataSplit::validation, context());
  EXPECT_EQ(ints(listed.next(1).input_ids), (Ids{'v', 'l', 'i', 'n', 'e', ' ', '0', '\n'}));
  config.validation.clear();
  config.validation_fraction = 0;
  expect_error([&] { DataLoader none(config, DataSplit::validation, context()); }, "no validation data");
}

TEST_F(DataLoaderTest, ReadsFinishedSamples) {
  const std::string path = directory_ / "rows.safetensors";
  write_safetensors(
      path, {{"input_ids", Tensor::from_vector<int64_t>({1, 2, 3, 4, 5, 6}, {3, 2})},
             {"labels", Tensor::from_vector<int64_t>({1, -100, 3, 4, 5, 6}, {3, 2})},
             {"attention_mask", Tensor::from_vector<int64_t>({1, 0, 1, 1, 1, 1}, {3, 2})},
             {"token_type_ids", Tensor::from_vector<int32_t>({0, 1, 0, 1, 0, 1}, {3, 2})},
             {"next_sentence_label", Tensor::from_vector<int64_t>({0, 1, 0}, {3})},
             {"special_tokens_mask", Tensor::from_vector<uint8_t>({0, 1, 0, 2, 1, 1}, {3, 2}).to(DType::boolean)},
             {"target", Tensor::from_vector<double>({0.5, 1.5, 2.5}, {3})}});
  DataConfig config = {.train = {{path, {}}}, .shuffle = false};
  DataLoader loader = train(config);
  EXPECT_EQ(loader.samples_per_epoch(), 3);
  const Batch batch = loader.next(4);  // the fourth is the first again
  EXPECT_EQ(ints(batch.input_ids), (Ids{1, 2, 3, 4, 5, 6, 1, 2}));
  EXPECT_EQ(ints(batch.labels), (Ids{1, kNone, 3, 4, 5, 6, 1, kNone}));
  EXPECT_FALSE(batch.labels_shifted);
  EXPECT_EQ(batch.attention_mask.dtype(), DType::u8);
  EXPECT_EQ(batch.count_tokens(), 6);
  ASSERT_EQ(batch.others.size(), 4u);
  EXPECT_EQ(batch.others[0].first, "next_sentence_label");
  EXPECT_EQ(ints(batch.others[0].second), (Ids{0, 1, 0, 0}));
  EXPECT_EQ(batch.others[1].first, "special_tokens_mask");
  EXPECT_EQ(batch.others[1].second.dtype(), DType::u8);
  EXPECT_EQ(ints(batch.others[1].second), (Ids{0, 1, 0, 1, 1, 1, 0, 1}));
  EXPECT_EQ(batch.others[2].first, "target");
  EXPECT_EQ(batch.others[2].second.dtype(), DType::f32);
  EXPECT_EQ(batch.rows(1, 1).others[2].second.item(), 1.5);
  EXPECT_NE(describe_batch(batch).find("target: 2.5"), std::string::npos);

  const auto refuse = [&](const NamedTensors& tensors, const std::string& why) {
    write_safetensors(path, tensors);
    expect_error([&] { train(config).next(3); }, why);
  };
  const Tensor ids = Tensor::from_vector<int32_t>({1, 2, 3, 4, 5, 6}, {3, 2});
  refuse({{"labels", ids}}, "no integer tensor \"input_ids\"");
  refuse({{"input_ids", ids.to(DType::f32)}}, "no integer tensor \"input_ids\"");
  refuse({{"input_ids", ids}, {"labels", ids.narrow(0, 0, 2)}}, "rows, another has");
  refuse({{"input_ids", Tensor::from_vector<int32_t>({1, 2, 257, 4, 5, 6}, {3, 2})}},
         "257 in \"input_ids\" is outside [0, 256]: row 1");
  refuse({{"input_ids", Tensor::from_vector<int32_t>({1, 2, -1, 4, 5, 6}, {3, 2})}}, "-1 in \"input_ids\"");
  refuse({{"input_ids", ids}, {"labels", Tensor::from_vector<int32_t>({1, 2, -99, 4, 5, 6}, {3, 2})}},
         "-99 in \"labels\"");
  refuse({{"input_ids", ids}, {"x", Tensor::from_vector<int64_t>({int64_t{1} << 40, 0, 0}, {3})}}, "in \"x\"");
}

TEST_F(DataLoaderTest, ReadsReferenceBatchesInFileOrder) {
  const std::string data = testing::test_data();
  if (data.empty()) GTEST_SKIP() << "skipped: ONDOL_TEST_DATA is not set";
  int models = 0;
  for (const auto& model : std::filesystem::directory_iterator(data + "/hf_tiny")) {
    const std::string path = (model.path() / "curve_batches.safetensors").string();
    if (!std::filesystem::exists(path)) continue;
    ++models;
    DataContext unchecked;
    DataLoader loader({.train = {{path, {}}}, .shuffle = false}, DataSplit::train, unchecked);
    const SafetensorsFile file(path);
    const std::vector<int64_t> ids = file.tensor("input_ids").to_vector<int64_t>();
    const int64_t rows = file.find("input_ids")->shape[0], length = file.find("input_ids")->shape[1];
    for (int64_t step = 0; step < 6; ++step) {
      const Batch batch = loader.next(4);
      const Ids read = ints(batch.input_ids);
      for (int64_t i = 0; i < 4 * length; ++i) {
        ASSERT_EQ(read[i], ids[(step * 4 * length + i) % (rows * length)]) << path << " step " << step;
      }
    }
  }
  EXPECT_GE(models, 20);
}

TEST_F(DataLoaderTest, SaysWhatIsWrong) {
  const auto attempt = [&](DataConfig config) { return [this, config] { train(config); }; };
  const std::string path = lines("a.txt", 10);
  expect_error(attempt({.sequence_length = 8}), "\"data.train\" lists no source");
  expect_error(attempt({.train = {{directory_ / "none.txt", {}}}, .sequence_length = 8}), "no such data file (");
  expect_error(attempt({.train = {{directory_ / "*.jsonl", {}}}, .sequence_length = 8}), "no data file matches (");
  expect_error(attempt({.train = {{directory_.write("a.csv", "x"), {}}}, .sequence_length = 8}),
               "unknown kind of data file (");
  expect_error(attempt({.train = {{directory_.write("e.txt", ""), {}}}, .sequence_length = 8}), "empty corpus: ");
  expect_error(attempt({.train = {{path, {}}}, .sequence_length = 100000}), "corpus shorter than one sample: ");
  expect_error(attempt({.train = {{path, {}}}}), "data.sequence_length must be at least 1, got 0");
  expect_error(attempt({.train = {{path, -1.0}}, .sequence_length = 8}), "data weight must be above 0, got -1");
  DataContext no_tokenizer = context();
  no_tokenizer.encoder = nullptr;
  expect_error(
      [&] {
        DataLoader loader({.train = {{path, {}}}, .sequence_length = 8}, DataSplit::train, no_tokenizer);
      },
      "text data need a tokenizer (");
  prepare_tokens(byte_encoder(257, 99), {path}, directory_ / "p");
  expect_error(attempt({.train = {{directory_ / "p.bin", {}}}, .sequence_length = 8}),
               "prepared with another tokenizer (");
  DataContext small = context();
  small.vocab_size = 100;
  encoder_.fingerprint = 99;
  expect_error(
      [&] {
        DataLoader loader({.train = {{directory_ / "p", {}}}, .sequence_length = 8}, DataSplit::train, small);
      },
      "token id 256 is outside the vocabulary of the model, 100");
  write_safetensors(directory_ / "r.safetensors", {{"input_ids", Tensor::zeros({3, 2}, DType::i32)}});
  expect_error(attempt({.train = {{path, {}}, {directory_ / "r.safetensors", {}}}, .sequence_length = 8}),
               "cannot be mixed");
  expect_error(attempt({.train = {{path, 1.0}, {directory_ / "r.safetensors", 1.0}}, .sequence_length = 8}),
               "samples of different layout cannot be mixed");
}

TEST(DataConfig, ReadsTheSection) {
  const auto read = [](const std::string& text) {
    const Json document = parse_json(text, "x.json");
    const JsonReader root(document, "x.json");
    const DataConfig config = read_data_config(root.child("data"));
    root.finish();
    return config;
  };
  const DataConfig config = read(R"({"data": {"train": [{"path": "a", "weight": 2}, {"path": "b"}],
      "validation": [{"path": "c"}], "sequence_length": 256, "packing": false, "shuffle": false, "shuffle_seed": 3,
      "document_separator": "line", "text_field": "body", "validation_fraction": 0.5, "document_mask": false}})");
  ASSERT_EQ(config.train.size(), 2u);
  EXPECT_EQ(config.train[0].weight, 2.0);
  EXPECT_FALSE(config.train[1].weight.has_value());
  EXPECT_EQ(config.validation[0].path, "c");
  EXPECT_EQ(config.sequence_length, 256);
  EXPECT_FALSE(config.packing || config.shuffle || config.document_mask);
  EXPECT_EQ(config.shuffle_seed, 3u);
  EXPECT_EQ(config.document_separator, "line");
  EXPECT_EQ(config.text_field, "body");
  EXPECT_EQ(config.validation_fraction, 0.5);
  EXPECT_TRUE(read("{}").shuffle);
  EXPECT_EQ(error_of([&] { read(R"({"data": {"train": [{"path": "a", "weight": 0}]}})"); }),
            "key \"data.train[0].weight\": must be above 0, got 0 (x.json)");
  EXPECT_EQ(error_of([&] { read(R"({"data": {"sequence_lenght": 3}})"); }),
            "unknown key \"data.sequence_lenght\": not a configuration key (x.json)");
}

TEST(Batch, CountsTheTokensOfBothSides) {
  Batch batch;
  batch.input_ids = Tensor::zeros({2, 5}, DType::i32);
  EXPECT_EQ(batch.count_tokens(), 10);
  batch.others.emplace_back("decoder_input_ids", Tensor::zeros({2, 3}, DType::i32));
  EXPECT_EQ(batch.count_tokens(), 16);
  batch.others.emplace_back("decoder_attention_mask",
                            Tensor::from_vector(std::vector<uint8_t>{1, 1, 0, 1, 0, 0}, {2, 3}));
  EXPECT_EQ(batch.count_tokens(), 13);
}

}  // namespace
}  // namespace ondol
