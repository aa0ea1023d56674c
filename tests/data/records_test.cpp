// Structured examples: the readers of files, and the samples made of them.
#include <ondol/data/data_loader.h>

#include <gtest/gtest.h>

#include <ondol/base/error.h>
#include <ondol/base/parallel.h>

#include "data/data_config.h"
#include "data/delimited.h"
#include "data/record_encoder.h"
#include "data/record_reader.h"
#include "support/error_of.h"
#include "support/temporary_directory.h"

namespace ondol {
namespace {

using testing::error_of;
using testing::TemporaryDirectory;
using Ids = std::vector<int32_t>;
using Rows = std::vector<std::vector<std::string>>;

Rows rows_of(const TemporaryDirectory& directory, const std::string& text, DelimitedReader::Format format) {
  DelimitedReader reader(directory.write("table", text), format);
  Rows rows;
  for (std::vector<std::string> fields; reader.next(fields);) rows.push_back(fields);
  return rows;
}

// The examples of RFC 4180, section 2, rules 1 to 7.
TEST(Delimited, ReadsTheExamplesOfRfc4180) {
  const TemporaryDirectory directory;
  const Rows plain = {{"aaa", "bbb", "ccc"}, {"zzz", "yyy", "xxx"}};
  EXPECT_EQ(rows_of(directory, "aaa,bbb,ccc\r\nzzz,yyy,xxx\r\n", DelimitedReader::kCsv), plain);
  EXPECT_EQ(rows_of(directory, "aaa,bbb,ccc\r\nzzz,yyy,xxx", DelimitedReader::kCsv), plain);
  EXPECT_EQ(rows_of(directory, "\"aaa\",\"bbb\",\"ccc\"\r\nzzz,yyy,xxx", DelimitedReader::kCsv), plain);
  EXPECT_EQ(rows_of(directory, "\"aaa\",\"b\r\nbb\",\"ccc\"\r\nzzz,yyy,xxx", DelimitedReader::kCsv),
            (Rows{{"aaa", "b\r\nbb", "ccc"}, {"zzz", "yyy", "xxx"}}));
  EXPECT_EQ(rows_of(directory, "\"aaa\",\"b\"\"bb\",\"ccc\"", DelimitedReader::kCsv), (Rows{{"aaa", "b\"bb", "ccc"}}));
}

// Expectations are what Python's csv.reader(strict=True) gives.
TEST(Delimited, AgreesWithAnotherReader) {
  const TemporaryDirectory directory;
  EXPECT_EQ(rows_of(directory,
                    "\xef\xbb\xbf"
                    "a, b ,\n\n,,\n\"\"\n\"\"\"\",\" x\"\n",
                    DelimitedReader::kCsv),
            (Rows{{"a", " b ", ""}, {"", "", ""}, {""}, {"\"", " x"}}));
  EXPECT_EQ(rows_of(directory, "it's \"so\"\t1\nb\t\r\n", DelimitedReader::kTsv),
            (Rows{{"it's \"so\"", "1"}, {"b", ""}}));
  EXPECT_EQ(rows_of(directory, "", DelimitedReader::kCsv), Rows{});
}

TEST(Delimited, NamesTheLineOfAWrongQuote) {
  const TemporaryDirectory directory;
  const std::string place = "(" + directory / "table" + ":";
  const auto error = [&](const std::string& text) {
    return error_of([&] { rows_of(directory, text, DelimitedReader::kCsv); });
  };
  EXPECT_EQ(error("a,b\n\"c\nd\"e,f\n"), "cannot read table: text behind a closing quote " + place + "3)");
  EXPECT_EQ(error("a,b\nc,\"d\ne\n"), "cannot read table: a quote is opened here and never closed " + place + "2)");
  EXPECT_EQ(error("a,b\"c\n"), "cannot read table: a quote inside a field that is not quoted " + place + "1)");
}

std::vector<Record> records_of(const RecordFile& file, const RecordSettings& settings = {}) {
  RecordReader reader(file, settings);
  std::vector<Record> records;
  for (Record record; reader.next(record);) records.push_back(record);
  return records;
}

TEST(Records, AreTheSameFromEveryKindOfFile) {
  const TemporaryDirectory directory;
  const std::vector<std::string> paths = {
      directory.write("a.jsonl", "{\"t\": \"one, \\\"two\\\"\", \"n\": \"1\"}\r\n\n{\"t\": \"three\", \"n\": \"2\"}"),
      directory.write("a.json", "[{\"t\": \"one, \\\"two\\\"\", \"n\": \"1\"}, {\"t\": \"three\", \"n\": \"2\"}]"),
      directory.write("a.csv", "t,n\n\"one, \"\"two\"\"\",1\nthree,2\n"),
      directory.write("a.tsv", "n\tt\n1\tone, \"two\"\n2\tthree\n")};
  const RecordSettings settings{.fields = {{"text", "t"}, {"label", "n"}}};
  for (const std::string& path : paths) {
    const auto records = records_of({.path = path}, settings);
    ASSERT_EQ(records.size(), 2u) << path;
    EXPECT_EQ(records[0].text("text"), "one, \"two\"");
    EXPECT_EQ(records[0].name("label"), "1");
    EXPECT_EQ(records[1].text("text"), "three");
    EXPECT_EQ(records[1].number("label"), 2.0);
    EXPECT_EQ(records[0].find("text_pair"), nullptr);
  }
  EXPECT_EQ(records_of({.path = paths[0]})[1].place(), paths[0] + ":3");
  EXPECT_EQ(records_of({.path = paths[1]})[1].place(), paths[1] + ", element 2");
  EXPECT_EQ(records_of({.path = paths[2]})[1].place(), paths[2] + ":3");
  directory.write("plain.txt", "three\t2\n");
  const auto named = records_of({.path = directory / "plain.txt", .format = "tsv"}, {.columns = {"text", "label"}});
  ASSERT_EQ(named.size(), 1u);
  EXPECT_EQ(named[0].text("text"), "three");
}

TEST(Records, TaggedWordsAndParallelLines) {
  const TemporaryDirectory directory;
  const std::string tagged = directory.write("a.conll",
                                             "-DOCSTART- -X- O\n\n## a comment : here\n# O\nSeoul NNP B-LOC\n\n\n"
                                             "## id\tText <x:y>\n \tO\nb c\tB-X\n");
  const auto sentences = records_of({.path = tagged});
  ASSERT_EQ(sentences.size(), 2u);
  EXPECT_EQ(sentences[0].texts("words"), (std::vector<std::string>{"#", "Seoul"}));
  EXPECT_EQ(sentences[0].names("tags"), (std::vector<std::string>{"O", "B-LOC"}));
  EXPECT_EQ(sentences[0].place(), tagged + ":4");
  EXPECT_EQ(sentences[1].texts("words"), (std::vector<std::string>{" ", "b c"}));

  const std::string source = directory.write("a.en", "one\ntwo\n"), target = directory.write("a.de", "eins\nzwei\n");
  const auto pairs = records_of({.path = source, .target_path = target});
  ASSERT_EQ(pairs.size(), 2u);
  EXPECT_EQ(pairs[1].text("source") + pairs[1].text("target"), "twozwei");
  directory.write("a.de", "eins\n");
  EXPECT_EQ(error_of([&] { records_of({.path = source, .target_path = target}); }),
            "cannot read parallel files: " + target + " ends after line 1, " + source + " goes on");
}

TEST(Records, FailuresNameFieldAndPlace) {
  const TemporaryDirectory directory;
  const std::string path = directory.write(
      "a.jsonl", "{\"s\": {\"en\": \" \", \"de\": 5}, \"n\": \"4x\", \"l\": [1, \"b\"], \"z\": null, \"x\": 1e999}");
  EXPECT_NE(error_of([&] { records_of({.path = path}); }).find(path + ":1"), std::string::npos);
  directory.write("a.jsonl",
                  "{\"s\": {\"en\": \" \", \"de\": 5}, \"n\": \"4x\", \"l\": [1, \"b\"], \"z\": null, \"d\": 1.5}");
  const Record record =
      records_of({.path = path}, {.fields = {{"text", "s.en"}, {"pair", "s.de"}, {"other", "s.fr"}}}).at(0);
  const auto error = [&](const auto& action) { return error_of([&] { action(); }); };
  const std::string place = " (" + path + ":1)";
  EXPECT_EQ(error([&] { record.text("text"); }), "cannot use example: field \"s.en\" is empty" + place);
  EXPECT_EQ(record.any_text("text"), " ");
  EXPECT_EQ(error([&] { record.text("pair"); }),
            "cannot use example: field \"s.de\" must be a text, not number" + place);
  EXPECT_EQ(error([&] { record.text("other"); }),
            "cannot use example: no field \"s.fr\", it has \"d\", \"l\", \"n\", \"s\", \"z\"" + place);
  EXPECT_EQ(error([&] { record.require("z"); }).substr(0, 33), "cannot use example: no field \"z\",");
  EXPECT_EQ(error([&] { record.number("n"); }), "cannot use example: field \"n\" must be a number, not \"4x\"" + place);
  EXPECT_EQ(error([&] { record.name("d"); }),
            "cannot use example: field \"d\" must be a text or a whole number, not number" + place);
  EXPECT_EQ(record.names("l"), (std::vector<std::string>{"1", "b"}));
  EXPECT_EQ(error([&] { record.texts("l"); }), "cannot use example: field \"l\" must hold texts, not number" + place);

  const std::string table = directory.write("b.tsv", "a\tb\n1\t2\n\n3\n");
  EXPECT_EQ(error([&] { records_of({.path = table}); }),
            "cannot read table: a row of 1 fields, there are 2 columns (" + table + ":4)");
  directory.write("b.tsv", "a\ta\n");
  EXPECT_EQ(error([&] { records_of({.path = table}); }),
            "cannot read table: two columns are called \"a\" (" + table + ")");
  directory.write("b.tsv", "a\n\xff\n");
  EXPECT_EQ(error([&] { records_of({.path = table}); }), "cannot use example: it is not UTF-8 (" + table + ":2)");
  const std::string other = directory.write("c.json", "{\"data\": []}");
  EXPECT_EQ(error([&] { records_of({.path = other}); }),
            "cannot read JSON: an array of objects is expected, not object (" + other + ")");
  EXPECT_EQ(error([&] { records_of({.path = directory.write("d.xml", "")}); }),
            "unknown kind of file for examples (" + directory / "d.xml" + ")");
}

/// A token a byte; the number as label. `copies` samples of each record; packable with labels like the inputs.
struct ByteRecords final : RecordEncoder {
  std::vector<SampleColumn> columns() const override {
    SampleColumn label{.name = "labels", .kind = SampleColumn::scalar};
    if (packs) label = {.name = "labels", .padding = kIgnoreIndex};
    return {{.name = "input_ids", .padding = 7, .limit = limit},
            label,
            {.name = "token_type_ids", .padding = 9, .limit = limit}};
  }
  uint64_t fingerprint() const override { return key; }
  std::vector<std::string> fields() const override { return {"text", "label"}; }
  void encode(const Record& record, EncodedRecord& out) const override {
    Ids ids;
    for (const char c : record.text("text")) ids.push_back(static_cast<unsigned char>(c));
    const Ids label = packs ? ids : Ids{static_cast<int32_t>(record.number("label"))};
    for (int i = 0; i < copies; ++i) {
      out.samples.push_back({.values = {ids, label, Ids(ids.size(), i)}, .reference = record.text("text") + "!"});
    }
  }
  bool can_pack() const override { return packs; }

  int copies = 1;
  bool packs = false;
  uint64_t key = 5;
  int64_t limit = 0;
};

class RecordLoader : public ::testing::Test {
 protected:
  DataLoader open(const DataConfig& config, DataSplit split = DataSplit::train) {
    return DataLoader(config, split, {.record_encoder = encoder_});
  }
  std::string table(int count) {
    std::string text = "text\tlabel\n";
    for (int i = 0; i < count; ++i)
      text += std::string(1 + i * 37 % 23, static_cast<char>('a' + i % 26)) + concat("\t", i, "\n");
    return directory_.write("a.tsv", text);
  }
  static Ids ints(const Tensor& tensor) { return tensor.to_vector<int32_t>(); }

  TemporaryDirectory directory_;
  std::shared_ptr<ByteRecords> encoder_ = std::make_shared<ByteRecords>();
};

TEST_F(RecordLoader, PadsABatchToItsLongestRow) {
  const std::string path = directory_.write("a.tsv", "text\tlabel\nabc\t4\nx\t5\nabcdefghij\t6\n");
  DataLoader loader = open({.train = {{.path = path}}, .shuffle = false});
  Batch batch = loader.next(2);
  EXPECT_EQ(batch.input_ids.shape(), (Shape{2, 8}));
  EXPECT_EQ(ints(batch.input_ids), (Ids{'a', 'b', 'c', 7, 7, 7, 7, 7, 'x', 7, 7, 7, 7, 7, 7, 7}));
  EXPECT_EQ(ints(batch.attention_mask), (Ids{1, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(ints(batch.labels), (Ids{4, 5}));
  ASSERT_EQ(batch.others.size(), 1u);
  EXPECT_EQ(batch.others[0].first, "token_type_ids");
  EXPECT_EQ(ints(batch.others[0].second), (Ids{0, 0, 0, 9, 9, 9, 9, 9, 0, 9, 9, 9, 9, 9, 9, 9}));
  EXPECT_FALSE(batch.labels_shifted);
  EXPECT_EQ(batch.count_tokens(), 4);
  batch = loader.next(3);  // the third one, and on into the next epoch
  EXPECT_EQ(batch.input_ids.shape(), (Shape{3, 16}));
  EXPECT_EQ(ints(batch.labels), (Ids{6, 4, 5}));
  EXPECT_EQ(loader.origin(2).place, path + ":4");
  EXPECT_EQ(loader.origin(2).reference, "abcdefghij!");
  EXPECT_EQ(loader.by_length(3), (std::vector<int64_t>{2, 0, 1}));
  const std::vector<int64_t> chosen = {2, 0};
  EXPECT_EQ(ints(loader.at(chosen).labels), (Ids{6, 4}));
  EXPECT_NE(loader.describe().find("3 examples, 3 samples, 14 tokens"), std::string::npos) << loader.describe();
  encoder_->limit = 10;  // as many as the model has positions
  EXPECT_EQ(open({.train = {{.path = path}}, .shuffle = false}).next(3).input_ids.shape(), (Shape{3, 10}));
}

TEST_F(RecordLoader, OrderAndResumeFollowFromTheSampleNumberAlone) {
  encoder_->copies = 2;
  const DataConfig config = {.train = {{.path = table(150)}}, .shuffle_seed = 3};
  DataLoader whole = open(config);
  EXPECT_EQ(whole.samples_per_epoch(), 300);
  const Ids all = ints(whole.next(700).labels);
  Ids epoch(all.begin(), all.begin() + 300);
  std::sort(epoch.begin(), epoch.end());
  for (int i = 0; i < 300; ++i) ASSERT_EQ(epoch[static_cast<size_t>(i)], i / 2);
  for (const int64_t size : {1, 7, 50}) {
    DataLoader first = open(config);
    Ids labels;
    const auto read = [&](DataLoader& loader) {
      const Ids more = ints(loader.next(size).labels);
      labels.insert(labels.end(), more.begin(), more.end());
    };
    while (labels.size() + static_cast<size_t>(size) <= 350) read(first);
    set_num_threads(1);
    DataLoader second = open(config);
    set_num_threads(2);
    second.restore(first.state());
    while (labels.size() + static_cast<size_t>(size) <= 700) read(second);
    EXPECT_TRUE(std::equal(labels.begin(), labels.end(), all.begin()));
  }
  const std::string state = whole.state();
  encoder_->key = 6;  // another tokenizer or other settings
  EXPECT_NE(error_of([&] { open(config).restore(state); }).find("changed since the checkpoint"), std::string::npos);
  encoder_->key = 5;
  DataConfig renamed = config;
  renamed.fields = {{"label", "label"}};
  EXPECT_NE(error_of([&] { open(renamed).restore(state); }).find("changed since the checkpoint"), std::string::npos);
}

TEST_F(RecordLoader, SplitsOffWholeExamples) {
  encoder_->copies = 3;
  const DataConfig config = {.train = {{.path = table(100)}}, .validation_fraction = 0.2, .shuffle = false};
  DataLoader train = open(config), validation = open(config, DataSplit::validation);
  EXPECT_EQ(train.samples_per_epoch(), 240);
  EXPECT_EQ(validation.samples_per_epoch(), 60);
  EXPECT_EQ(ints(validation.next(4).labels), (Ids{80, 80, 80, 81}));
  EXPECT_EQ(validation.origin(3).record, 81);
}

TEST_F(RecordLoader, PacksWholeSamplesFirstFit) {
  encoder_->packs = true;
  const std::string path = directory_.write("a.tsv", "text\tlabel\nabcde\t0\nfghij\t0\nkl\t0\nmno\t0\n");
  DataLoader loader = open({.train = {{.path = path}}, .sequence_length = 8, .packing = true, .shuffle = false});
  EXPECT_EQ(loader.samples_per_epoch(), 2);  // 5 + 2 and 5 + 3
  const Batch batch = loader.next(2);
  EXPECT_EQ(ints(batch.input_ids), (Ids{'a', 'b', 'c', 'd', 'e', 'k', 'l', 7, 'f', 'g', 'h', 'i', 'j', 'm', 'n', 'o'}));
  EXPECT_EQ(ints(batch.labels), (Ids{kIgnoreIndex, 'b', 'c', 'd', 'e', kIgnoreIndex, 'l', kIgnoreIndex, kIgnoreIndex,
                                     'g', 'h', 'i', 'j', kIgnoreIndex, 'n', 'o'}));
  EXPECT_EQ(ints(batch.document_ids), (Ids{0, 0, 0, 0, 0, 1, 1, -1, 0, 0, 0, 0, 0, 1, 1, 1}));
  EXPECT_EQ(ints(batch.positions), (Ids{0, 1, 2, 3, 4, 0, 1, 0, 0, 1, 2, 3, 4, 0, 1, 2}));
  EXPECT_EQ(ints(batch.attention_mask), (Ids{1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1}));

  // Every sample is in one row, and little is left empty.
  DataLoader many = open({.train = {{.path = table(2000)}}, .sequence_length = 64, .packing = true, .shuffle = false});
  const Batch all = many.next(many.samples_per_epoch());
  int64_t tokens = 0;
  for (int i = 0; i < 2000; ++i) tokens += 1 + i * 37 % 23;
  EXPECT_EQ(all.count_tokens(), tokens);
  EXPECT_GE(static_cast<double>(tokens), 0.97 * static_cast<double>(all.input_ids.numel()));
}

TEST_F(RecordLoader, RefusesWhatDoesNotFit) {
  const auto error = [&](const DataConfig& config) { return error_of([&] { open(config); }); };
  const std::string path = directory_.write("a.tsv", "text\tlabel\nabc\t4\nabcd\tx\nabcde\ty\n");
  EXPECT_EQ(error({.train = {{.path = path}}}),
            "cannot use example: field \"label\" must be a number, not \"x\" (" + path + ":3)");  // the first one
  directory_.write("a.tsv", "text\tlabel\nabc\t4\nabcd\t1\n");
  EXPECT_EQ(error({.train = {{.path = path}}, .sequence_length = 3}),
            "cannot use example: 4 tokens, data.sequence_length is 3 (" + path + ":3)");
  EXPECT_EQ(error({.train = {{.path = path}}, .fields = {{"texts", "a"}}}),
            "data.fields: the objective has no field \"texts\"");
  directory_.write("a.tsv", "text\tlabel\n");
  EXPECT_NE(error({.train = {{.path = path}}}).find("no examples: 0 examples"), std::string::npos);
  encoder_ = nullptr;
  EXPECT_NE(error({.train = {{.path = path, .format = "tsv"}}}).find("which the objective does not read"),
            std::string::npos);
}

}  // namespace
}  // namespace ondol
