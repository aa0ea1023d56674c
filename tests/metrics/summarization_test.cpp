// Expected values: rouge_score 0.1.2 without stemming; for all scripts with a tokenizer that finds \w+ in the text in
// lower case.
#include <vector>

#include <ondol/base/error.h>
#include <ondol/base/text_reader.h>
#include <ondol/metrics/summarization.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "support/test_data.h"

namespace ondol::metrics {
namespace {

void expect_score(const RougeScore& score, double precision, double recall, double f1) {
  EXPECT_NEAR(score.precision, precision, 1e-12);
  EXPECT_NEAR(score.recall, recall, 1e-12);
  EXPECT_NEAR(score.f1, f1, 1e-12);
}

TEST(Rouge, LettersThatLowerCaseMakes) {
  const RougeScores scores =
      rouge("istanbul: the koln of seas 2", {"\u0130stanbul is THE K\u00f6ln of 2 seas, \u212a!"});
  EXPECT_NEAR(scores.rouge1.f1, 0.5, 1e-12);
  EXPECT_EQ(scores.rouge2.f1, 0.0);
  EXPECT_NEAR(scores.rouge_l.f1, 0.375, 1e-12);
}

TEST(Rouge, NothingToCompare) {
  EXPECT_EQ(rouge("", {"one two"}).rouge_l.f1, 0.0);
  EXPECT_EQ(rouge("one", {""}).rouge1.f1, 0.0);
  EXPECT_EQ(rouge("요약", {"요약"}).rouge1.f1, 0.0);
  EXPECT_NEAR(rouge("요약", {"요약"}, {.all_scripts = true}).rouge1.f1, 1.0, 1e-12);
  EXPECT_THROW(rouge("one", std::vector<std::string>{}), Error);
}

/// The first sentence of an abstract as its summary; some abstracts have several reference summaries.
TEST(Rouge, ScientificSummaries) {
  ONDOL_REQUIRE_DATA("tasks/scitldr/dev.jsonl");
  TextReader reader(test::data_path("tasks/scitldr/dev.jsonl"));
  std::vector<std::string> summaries;
  std::vector<std::vector<std::string>> references;
  for (std::string line; reader.read_line(line);) {
    const nlohmann::json record = nlohmann::json::parse(line);
    summaries.push_back(record["source"][0]);
    references.push_back(record["target"]);
  }
  const RougeScores scores = rouge(summaries, references);
  expect_score(scores.rouge1, 0.2860332547523632, 0.28658866676483363, 0.27212932546822066);
  expect_score(scores.rouge2, 0.10772799122131124, 0.11438764224530923, 0.10467197594855662);
  expect_score(scores.rouge_l, 0.2272101486259241, 0.2300892560472168, 0.21757045188604018);
  const RougeScores all = rouge(summaries, references, {.all_scripts = true});
  expect_score(all.rouge1, 0.28595247839205884, 0.2865623723755511, 0.2720779815380102);
  expect_score(all.rouge2, 0.10761943454976175, 0.11433668500533746, 0.10459809057176832);
  expect_score(all.rouge_l, 0.2271215083721318, 0.23004806513922182, 0.21750994515291136);
}

}  // namespace
}  // namespace ondol::metrics
