#include <ondol/data/clean.h>

#include <fstream>
#include <random>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <ondol/base/error.h>
#include <ondol/base/file.h>
#include <ondol/base/parallel.h>
#include <ondol/base/text_reader.h>
#include <ondol/data/documents.h>

#include "data/clean/clean_config.h"
#include "data/clean/json_row.h"
#include "data/clean/key_sorter.h"
#include "support/error_of.h"
#include "support/temporary_directory.h"
#include "support/test_data.h"

namespace ondol {
namespace {

using testing::error_of;
using testing::TemporaryDirectory;
using Texts = std::vector<std::string>;

Texts lines_of(const std::string& path) {
  Texts lines;
  TextReader reader(path);
  for (std::string line; reader.read_line(line);) lines.push_back(line);
  return lines;
}

class Clean : public ::testing::Test {
 protected:
  CleanConfig config(const std::string& input, std::vector<CleanStep> steps) const {
    CleanConfig config;
    config.inputs = {input};
    config.output = directory_ / "out.jsonl";
    config.steps = std::move(steps);
    return config;
  }
  Texts output() const { return lines_of(directory_ / "out.jsonl"); }

  const TemporaryDirectory directory_;
};

TEST_F(Clean, RowsKeepTheirOtherFieldsByteForByte) {
  const std::string rows =
      "{\"id\": 1.50, \"text\": \"write a@b.com\", \"text2\": {\"text\": \"a@b.com\"}, \"n\": "
      "12345678901234567890123}\n"
      "\n"
      "{ \"te\\u0078t\" : \"\\u00fc\\ta@b.com \\\"q\\\"\" ,\"x\":[\"{\",\"\\\\\"] }\r\n"
      "{\"text\":\"nothing here\", \"url\":\"a@b.com\"}\n";
  const CleanReport report = clean_documents(config(directory_.write("in.jsonl", rows), {RedactionOptions{}}));
  EXPECT_EQ(output(), (Texts{"{\"id\": 1.50, \"text\": \"write [EMAIL]\", \"text2\": {\"text\": \"a@b.com\"}, \"n\": "
                             "12345678901234567890123}",
                             "{ \"te\\u0078t\" : \"ü\\t[EMAIL] \\\"q\\\"\" ,\"x\":[\"{\",\"\\\\\"] }",
                             "{\"text\":\"nothing here\", \"url\":\"a@b.com\"}"}));
  EXPECT_EQ(report.documents_in, 3);
  EXPECT_EQ(report.documents_out, 3);
  EXPECT_EQ(report.steps[0].documents_changed, 2);
  EXPECT_EQ(report.steps[0].counts.at("email"), 2);
  EXPECT_EQ(directory_.count(), 2u);  // no temporary file is left
}

TEST_F(Clean, CountsWhatWasDroppedAndWhy) {
  std::string good = "the people with";
  for (int i = 0; i < 60; ++i) good += concat(" word", i);
  const std::string in =
      directory_.write("in.jsonl", concat("{\"text\": \"", good, "\"}\n{\"text\": \"short\"}\n{\"text\": \"", good,
                                          "\"}\n{\"text\": \"", good, " more\"}\n{\"text\": \"also short\"}\n"));
  CleanConfig c = config(in, {GopherQualityOptions{}, ExactDedupOptions{}, MinHashDedupOptions{}});
  c.report = directory_ / "report.json";
  c.rejected = directory_ / "rejected.jsonl.gz";
  const CleanReport report = clean_documents(c);
  EXPECT_EQ(output(), (Texts{concat("{\"text\": \"", good, "\"}")}));
  ASSERT_EQ(report.steps.size(), 3u);
  EXPECT_EQ(report.steps[0].documents_in, 5);
  EXPECT_EQ(report.steps[0].documents_dropped, 2);
  EXPECT_EQ(report.steps[0].bytes_dropped, 15);
  EXPECT_EQ(report.steps[0].reasons.at("too_few_words").examples,
            (Texts{in + ":2 (1 below 50)", in + ":5 (2 below 50)"}));
  EXPECT_EQ(report.steps[1].documents_in, 3);
  EXPECT_EQ(report.steps[1].reasons.at("duplicate").examples, (Texts{in + ":3 (of " + in + ":1)"}));
  EXPECT_EQ(report.steps[2].documents_in, 2);
  EXPECT_EQ(report.steps[2].reasons.at("duplicate").examples, (Texts{in + ":4 (of " + in + ":1)"}));
  EXPECT_EQ(report.bytes_out, static_cast<int64_t>(good.size()));
  EXPECT_EQ(report_json(report), directory_.read("report.json"));

  const Texts rejected = lines_of(c.rejected);
  ASSERT_EQ(rejected.size(), 4u);
  const auto first = nlohmann::json::parse(rejected[0]);
  EXPECT_EQ(first["step"], "gopher_quality");
  EXPECT_EQ(first["reason"], "too_few_words");
  EXPECT_EQ(first["detail"], "1 below 50");
  EXPECT_EQ(first["source"], in + ":2");
  EXPECT_EQ(first["text"], "short");
  EXPECT_EQ(nlohmann::json::parse(rejected[3])["step"], "minhash_dedup");
  const auto written = nlohmann::json::parse(directory_.read("report.json"));
  EXPECT_EQ(written["steps"][0]["reasons"]["too_few_words"]["documents"], 2);
}

TEST_F(Clean, TextFilesKeepTheirSeparator) {
  const std::string in = directory_.write("in.txt", "one\ntwo\n\nthree\n\none\ntwo\n");
  CleanConfig c = config(in, {ExactDedupOptions{}});
  c.separator = "blank_line";
  c.output = directory_ / "out.txt";
  EXPECT_EQ(clean_documents(c).steps[0].reasons.at("duplicate").examples, (Texts{in + ":6 (of " + in + ":1)"}));
  EXPECT_EQ(directory_.read("out.txt"), "one\ntwo\n\nthree\n");
  c.output = directory_ / "out.jsonl";
  clean_documents(c);
  EXPECT_EQ(output(), (Texts{"{\"text\": \"one\\ntwo\"}", "{\"text\": \"three\"}"}));
  c.separator = "line";
  c.output = directory_ / "lines.txt.gz";
  clean_documents(c);
  EXPECT_EQ(lines_of(c.output), (Texts{"one", "two", "three"}));
  c.separator = "two";
  c.output = directory_ / "out.txt";
  clean_documents(c);
  EXPECT_EQ(directory_.read("out.txt"), "one\ntwo\nthree\n\none\n");
  c.separator = "file";
  clean_documents(c);
  EXPECT_EQ(directory_.read("out.txt"), directory_.read("in.txt"));
  // What a text file could not keep apart is refused, and the output is the old one.
  c.inputs.push_back(directory_.write("in2.txt", "other"));
  EXPECT_NE(error_of([&] { clean_documents(c); }).find("in2.txt:1"), std::string::npos);
  c.inputs = {directory_.write("rows.jsonl", "{\"text\": \"a\\n\\nb\"}\n")};
  c.separator = "blank_line";
  EXPECT_NE(error_of([&] { clean_documents(c); }).find("rows.jsonl:1"), std::string::npos);
  EXPECT_EQ(directory_.read("out.txt"), directory_.read("in.txt"));
}

/// Rows of which many resemble each other, in groups that bands connect.
std::string similar_rows(int count, int words) {
  std::mt19937 random(7);
  std::string rows;
  for (int i = 0; i < count; ++i) {
    rows += "{\"text\": \"";
    const uint32_t topic = random() % static_cast<uint32_t>(1 + count / 3);
    for (int w = 0; w < words; ++w) rows += concat(random() % 40 == 0 ? "other" : "t", topic, "x", w, " ");
    rows += concat("\", \"id\": ", i, "}\n");
  }
  return rows;
}

TEST_F(Clean, ResultsDependNeitherOnThreadsNorOnMemory) {
  const std::string in = directory_.write("in.jsonl", similar_rows(15000, 8));
  const std::vector<CleanStep> steps = {
      RedactionOptions{}, MinHashDedupOptions{.minhash = {.ngram = 2, .bands = 56, .rows = 3}},
      ExactDedupOptions{.normalize = true}, MinHashDedupOptions{.minhash = {.ngram = 1}, .verify = 0.6}};
  CleanConfig c = config(in, steps);
  const int threads = num_threads();
  set_num_threads(1);
  const std::string expected = report_json(clean_documents(c));
  const std::string bytes = directory_.read("out.jsonl");
  c.memory_limit = uint64_t{16} << 20;  // 840000 pairs do not fit into its half
  set_num_threads(3);
  EXPECT_EQ(report_json(clean_documents(c)), expected);
  EXPECT_EQ(directory_.read("out.jsonl"), bytes);
  set_num_threads(threads);
  EXPECT_GT(bytes.size(), 1000u);
  EXPECT_LT(bytes.size(), directory_.read("in.jsonl").size() * 3 / 4);
}

TEST_F(Clean, NearDuplicatesFormClustersOfWhichOneStays) {
  const std::string base = "a b c d e f g h i j k l m n o p q r s t u v w x y z aa bb cc dd ee ff gg hh ii jj kk ll";
  const std::string in = directory_.write(
      "in.jsonl", concat("{\"text\": \"", base, "\"}\n{\"text\": \"completely different words\"}\n", "{\"text\": \"",
                         base, " and more\"}\n{\"text\": \"", base, " and more mm\"}\n"));
  clean_documents(config(in, {MinHashDedupOptions{}}));
  ASSERT_EQ(output().size(), 2u);
  EXPECT_EQ(output()[0], concat("{\"text\": \"", base, "\"}"));
  const CleanReport report =
      clean_documents(config(in, {MinHashDedupOptions{.keep = MinHashDedupOptions::Keep::longest}}));
  EXPECT_EQ(output(),
            (Texts{"{\"text\": \"completely different words\"}", concat("{\"text\": \"", base, " and more mm\"}")}));
  EXPECT_EQ(report.steps[0].reasons.at("duplicate").examples,
            (Texts{in + ":1 (of " + in + ":4)", in + ":3 (of " + in + ":4)"}));
}

TEST_F(Clean, VerifiedCandidatesResembleEachOther) {
  // 34 and 36 shingles, 30 of them in both: J = 30 / 40; with bands of one entry nearly every pair is a candidate.
  const auto text = [](int first, int count) {
    std::string words;
    for (int i = first; i < first + count; ++i) words += concat("w", i, " ");
    return words;
  };
  const std::string in =
      directory_.write("in.jsonl", concat("{\"text\": \"", text(0, 34), "\"}\n{\"text\": \"", text(4, 36), "\"}\n"));
  const auto kept = [&](double verify) {
    return clean_documents(
               config(in, {MinHashDedupOptions{.minhash = {.ngram = 1, .bands = 2000, .rows = 1}, .verify = verify}}))
        .documents_out;
  };
  EXPECT_EQ(kept(0), 1);
  EXPECT_EQ(kept(0.70), 1);  // 0.75 with a standard deviation of 0.01
  EXPECT_EQ(kept(0.80), 2);
}

TEST_F(Clean, LanguagesAreCounted) {
  const std::string in =
      directory_.write("in.txt",
                       "모든 인간은 자유롭다\n\nAll human beings are born free and equal in dignity and "
                       "rights.\n\nすべての人間は自由である\n");
  CleanConfig c = config(in, {LanguageOptions{.languages = {"ko", "en"}}});
  c.separator = "blank_line";
  const CleanReport report = clean_documents(c);
  EXPECT_EQ(report.documents_out, 2);
  EXPECT_EQ(report.steps[0].counts, (std::map<std::string, int64_t>{{"en", 1}, {"ja", 1}, {"ko", 1}}));
  EXPECT_EQ(report.steps[0].reasons.at("ja").documents, 1);
}

TEST_F(Clean, WhatCannotWorkIsNamedAndLeavesNothing) {
  const std::string in = directory_.write("in.jsonl", "{\"text\": \"a\"}\n{\"text\": 3}\n");
  const auto error = [&](const CleanConfig& c) { return error_of([&] { clean_documents(c); }); };
  EXPECT_NE(error(config(in, {ExactDedupOptions{}})).find("in.jsonl:2"), std::string::npos);
  CleanConfig c = config(in, {});
  c.output = in;
  EXPECT_NE(error(c).find("same file"), std::string::npos);
  c = config(in, {});
  c.rejected = c.output;
  EXPECT_NE(error(c).find("same name"), std::string::npos);
  c.rejected = directory_ / "rejected.txt";
  EXPECT_NE(error(c).find("rejected.txt"), std::string::npos);
  c = config(in, {});
  c.output = directory_ / "out.parquet";
  EXPECT_NE(error(c).find("out.parquet"), std::string::npos);
  EXPECT_NE(error(config(directory_ / "none*.jsonl", {})).find("none*"), std::string::npos);
  EXPECT_NE(error(config(in, {LanguageOptions{.languages = {"xx"}}})).find("\"xx\""), std::string::npos);
  EXPECT_NE(error(config(in, {LanguageOptions{}})).find("no language"), std::string::npos);
  c = config(directory_.write("ok.jsonl", "{\"text\": \"a\"}\n"), {ExactDedupOptions{}});
  c.memory_limit = 1000;
  EXPECT_NE(error(c).find("memory"), std::string::npos);
  EXPECT_EQ(directory_.count(), 2u);

  // A disk that is full.
  FileOperations& system = file_operations();
  const FileOperations before = system;
  system.write = [](int, const void*, size_t) -> ssize_t {
    errno = ENOSPC;
    return -1;
  };
  c.memory_limit = uint64_t{1} << 30;
  EXPECT_NE(error(c).find("No space left"), std::string::npos);
  system = before;
  EXPECT_EQ(directory_.count(), 2u);
}

TEST_F(Clean, ACorpusThatChangesMeanwhileIsNoticed) {
  const std::string in = directory_.write("in.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
  const CleanConfig c = config(in, {ExactDedupOptions{}});
  const auto append = [&](const CleanProgress& now) {
    if (now.pass == 1) std::ofstream(in, std::ios::app) << "{\"text\": \"c\"}\n";
  };
  EXPECT_NE(error_of([&] { clean_documents(c, append); }).find("has changed"), std::string::npos);
  EXPECT_EQ(directory_.count(), 1u);
}

TEST_F(Clean, ConfigurationsAreStrict) {
  const auto error = [](const std::string& text) {
    return error_of([&] { clean::read_clean_config(parse_json(text, "c.json"), "c.json"); });
  };
  const auto step = [&](const std::string& text) {
    return error(R"({"input": ["a.txt"], "output": "b.txt", "steps": [)" + text + "]}");
  };
  EXPECT_EQ(step(R"({"type": "gopher_quality", "min_words": 20, "stop_words": ["und", "der"]})"), "no error");
  EXPECT_EQ(step(R"({"type": "minhash_dedup", "verify": 0.7, "keep": "longest"}, {"type": "redact", "ip": false})"),
            "no error");
  EXPECT_NE(step(R"({"type": "gopher"})").find("steps[0].type"), std::string::npos);
  EXPECT_NE(step(R"({"type": "c4", "min_word": 3})").find("min_word"), std::string::npos);
  EXPECT_NE(step(R"({"type": "language"})").find("languages"), std::string::npos);
  EXPECT_NE(step(R"({"type": "minhash_dedup", "verify": 1.5})").find("verify"), std::string::npos);
  EXPECT_NE(step(R"({"type": "minhash_dedup", "bands": 3000, "rows": 3000})").find("rows"), std::string::npos);
  EXPECT_NE(step(R"({"type": "decontaminate", "benchmarks": ["x.txt"], "overlap": "mask"})").find("overlap"),
            std::string::npos);
  EXPECT_NE(step(R"({"type": "gopher_repetition", "max_top_ngram_characters": [0.2]})").find("expected 3"),
            std::string::npos);
  EXPECT_NE(step(R"({"type": "gopher_quality", "min_stop_words": 9})").find("min_stop_words"), std::string::npos);
  EXPECT_NE(error(R"({"output": "b.txt"})").find("input"), std::string::npos);
  const CleanConfig c = clean::read_clean_config(
      parse_json(R"({"input": ["a"], "output": "b", "steps": [{"type": "exact_dedup", "normalize": true}]})", "c"),
      "c");
  EXPECT_TRUE(std::get<ExactDedupOptions>(c.steps[0]).normalize);
  EXPECT_STREQ(step_name(c.steps[0]), "exact_dedup");
}

TEST(KeySorter, MergesWhatDoesNotFit) {
  const TemporaryDirectory directory;
  std::mt19937 random(3);
  std::vector<std::pair<std::array<uint32_t, 2>, uint32_t>> all;
  clean::KeySorter<2> small(0, directory.path()), large(uint64_t{64} << 20, directory.path());
  for (uint32_t d = 0; d < 50000; ++d) {
    const std::array<uint32_t, 2> key = {static_cast<uint32_t>(random() % 30), static_cast<uint32_t>(random() % 300)};
    small.add(key, d);
    large.add(key, d);
    all.emplace_back(key, d);
  }
  EXPECT_EQ(directory.count(), 0u);  // files have no names
  std::sort(all.begin(), all.end());
  for (clean::KeySorter<2>* sorter : {&small, &large}) {
    size_t i = 0;
    sorter->visit([&](uint32_t document, bool same) {
      ASSERT_LT(i, all.size());
      EXPECT_EQ(document, all[i].second);
      EXPECT_EQ(same, i > 0 && all[i].first == all[i - 1].first);
      ++i;
    });
    EXPECT_EQ(i, all.size());
  }
}

TEST(DocumentReader, SaysWhereADocumentBegan) {
  const TemporaryDirectory directory;
  const std::string path = directory.write("a.txt", "\none\ntwo\n\n\nthree\n<|end|>\n\nfour<|end|>five\n");
  const auto lines = [&](const std::string& separator) {
    DocumentReader reader(path, {.separator = separator});
    std::vector<int64_t> found;
    for (DocumentPiece piece; reader.next(piece);) found.push_back(reader.line_number());
    EXPECT_EQ(reader.row(), "");
    return found;
  };
  using Lines = std::vector<int64_t>;
  EXPECT_EQ(lines("file"), (Lines{1}));
  EXPECT_EQ(lines("line"), (Lines{2, 3, 6, 7, 9}));
  EXPECT_EQ(lines("blank_line"), (Lines{2, 6, 9}));
  EXPECT_EQ(lines("<|end|>"), (Lines{2, 9, 9}));
  DocumentReader rows(directory.write("a.jsonl", "\n{\"text\":\"a\", \"b\": 1}\n{\"text\":\"\"}\n{\"text\":\"c\"}"),
                      {});
  DocumentPiece piece;
  ASSERT_TRUE(rows.next(piece));
  EXPECT_EQ(rows.line_number(), 2);
  EXPECT_EQ(rows.row(), "{\"text\":\"a\", \"b\": 1}");
  ASSERT_TRUE(rows.next(piece));
  EXPECT_EQ(rows.line_number(), 4);
}

TEST(CleanCorpus, C4RowsPassMostRulesAndCopiesAreFound) {
  ONDOL_REQUIRE_DATA("corpora/c4_demo.jsonl");
  const TemporaryDirectory directory;
  CleanConfig c;
  c.inputs = {test::data_path("corpora/c4_demo.jsonl"), test::data_path("corpora/c4_demo.jsonl")};
  c.output = directory / "out.jsonl.gz";
  c.steps = {MinHashDedupOptions{}};
  EXPECT_EQ(clean_documents(c).documents_out, 300);
  EXPECT_EQ(lines_of(c.output), lines_of(c.inputs[0]));
  c.inputs.pop_back();
  c.steps = {LanguageOptions{.languages = {"en"}}, C4Options{.min_sentences = 3}};
  const CleanReport report = clean_documents(c);
  EXPECT_GE(report.steps[0].counts.at("en"), 293);
  // The rows went through these very rules before; sentences are counted otherwise here.
  EXPECT_LE(report.steps[1].documents_dropped, 3);
  EXPECT_LE(report.steps[1].documents_changed, 15);
}

}  // namespace
}  // namespace ondol
