// The verbs that clean a corpus, as a user calls them.
#include "base/json_reader.h"
#include "tools/program.h"

namespace ondol::testing {
namespace {

class DataClean : public ::testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& content) const {
    return directory_.write(name, content);
  }
  std::string rows() const {
    return file("in.jsonl",
                "{\"text\": \"call 010-1234-5678\", \"id\": 1}\n{\"text\": \"one two three four\", \"id\": 2}\n"
                "{\"text\": \"One, two: three four!\", \"id\": 3}\n{\"text\": \"one two three four\", \"id\": 4}\n");
  }

  const TemporaryDirectory directory_;
};

TEST_F(DataClean, EachVerbIsAPipelineOfItsStep) {
  const std::string in = rows(), out = directory_ / "out.jsonl";
  const auto run = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "data");
    arguments.insert(arguments.end(), {"--input", in, "--output", out});
    const ProgramResult result = run_program(arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    return result.out;
  };
  EXPECT_NE(run({"redact"}).find("4 of 4 documents (100.0 %)"), std::string::npos);
  EXPECT_TRUE(directory_.read("out.jsonl").starts_with("{\"text\": \"call [PHONE]\", \"id\": 1}\n"));
  EXPECT_NE(run({"dedup", "--method", "exact"}).find("3 of 4 documents"), std::string::npos);
  EXPECT_NE(run({"dedup"}).find("2 of 4 documents"), std::string::npos);
  EXPECT_EQ(directory_.read("out.jsonl"),
            "{\"text\": \"call 010-1234-5678\", \"id\": 1}\n{\"text\": \"one two three four\", \"id\": 2}\n");
  EXPECT_NE(
      run({"filter", "--rules", "gopher_quality", "--set", "steps.0.min_words=4", "--set", "steps.0.min_stop_words=0"})
          .find("too_few_words 1"),
      std::string::npos);
  EXPECT_NE(run({"filter", "--languages", "ko,de"}).find("language: 4 of 4 dropped"), std::string::npos);
  const std::string benchmark = file("benchmark.txt", "one two three four\n");
  EXPECT_NE(run({"decontaminate", "--benchmark", benchmark, "--set", "steps.0.ngram=4"}).find("1 of 4 documents"),
            std::string::npos);

  const Json report = parse_json(run({"redact", "--json", "--report", directory_ / "report.json"}), "stdout");
  EXPECT_EQ(report["steps"][0]["counts"]["phone"], 1);
  EXPECT_EQ(parse_json(directory_.read("report.json"), "report"), report);
}

TEST_F(DataClean, APipelineComesFromAFile) {
  const std::string config = file("clean.json", concat(R"({"input": [")", rows(), R"("], "output": ")",
                                                       directory_ / "a.jsonl", R"(", "steps": [{"type": "exact_dedup",
      "normalize": true}, {"type": "redact", "phone": true}]})"));
  EXPECT_EQ(run_program({"data", "clean", config}).code, 0);
  const std::string expected =
      "{\"text\": \"call [PHONE]\", \"id\": 1}\n{\"text\": \"one two three four\", \"id\": 2}\n";
  EXPECT_EQ(directory_.read("a.jsonl"), expected);
  const ProgramResult result = run_program(
      {"data", "clean", config, "--output", directory_ / "b.jsonl", "--set", "steps.1.phone=false", "--threads", "1"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(directory_.read("b.jsonl").starts_with("{\"text\": \"call 010-1234-5678\""));
}

TEST_F(DataClean, BadInputIsNamed) {
  const std::string in = rows(), out = directory_ / "out.jsonl";
  expect_failure({"data", "dedup", "--input", in}, 2, "--output");
  expect_failure({"data", "dedup", "--input", in, "--output", out, "--method", "fuzzy"}, 2, "fuzzy");
  expect_failure({"data", "dedup", "--input", directory_ / "none.jsonl", "--output", out}, 2, "none.jsonl");
  expect_failure({"data", "filter", "--input", in, "--output", out, "--languages", "en,xx"}, 2, "\"xx\"");
  expect_failure({"data", "filter", "--input", in, "--output", out, "--rules", "gopher"}, 2, "gopher");
  expect_failure({"data", "redact", "--input", in, "--output", in}, 2, "same file");
  expect_failure({"data", "redact", "--input", in, "--output", directory_ / "out.csv"}, 2, "out.csv");
  expect_failure({"data", "redact", "--input", file("bad.jsonl", "{\"text\": \"a\"}\n{oops\n"), "--output", out}, 1,
                 "bad.jsonl:2");
  expect_failure({"data", "redact", "--input", in, "--output", out, "--set", "steps.0.emial=true"}, 2,
                 "steps[0].emial");
  expect_failure({"data", "decontaminate", "--input", in, "--output", out, "--benchmark", file("b.txt", "two words\n")},
                 2, "b.txt");
  expect_failure({"data", "clean", file("c.json", "{\"input\": [\"a.txt\"], \"output\": \"b\", \"step\": []}")}, 2,
                 "\"step\"");
  EXPECT_FALSE(std::filesystem::exists(out));
}

}  // namespace
}  // namespace ondol::testing
