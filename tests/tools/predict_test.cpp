// ondol predict: shapes of the answers, order of files, errors.
#include "base/json_reader.h"
#include "support/tiny_bert.h"
#include "tools/program.h"

namespace ondol::testing {
namespace {

Json answer_of(std::vector<std::string> arguments) {
  arguments.emplace_back("--json");
  const ProgramResult result = run_program(arguments);
  EXPECT_EQ(result.code, 0) << result.err;
  return parse_json(result.out, "answer");
}

TEST(PredictVerb, AFileIsAnsweredLineByLineInItsOrder) {
  const TinyBert bert("BertModel");
  const std::vector<std::string> texts = {"the cat", "the dog sat on the red log .", "who", "the cat"};
  std::string lines;
  for (const std::string& text : texts) lines += R"({"text": ")" + text + "\"}\n";
  const std::string file = bert.directory().write("texts.jsonl", lines);
  const ProgramResult result = run_program({"predict", bert.path(), "--task", "embed", "--file", file});
  ASSERT_EQ(result.code, 0) << result.err;
  std::vector<Json> answers;
  for (size_t at = 0; at < result.out.size();) {
    const size_t end = result.out.find('\n', at);
    answers.push_back(parse_json(result.out.substr(at, end - at), "line"));
    at = end + 1;
  }
  ASSERT_EQ(answers.size(), 4u);
  EXPECT_EQ(answers[0], answers[3]);
  for (size_t i = 0; i < 4; ++i) {
    ASSERT_EQ(answers[i]["embedding"].size(), 16u);
    const Json alone = answer_of({"predict", bert.path(), "--task", "embed", "--text", texts[i]});
    for (size_t c = 0; c < 16; ++c) {
      EXPECT_NEAR(answers[i]["embedding"][c].get<double>(), alone["embedding"][c].get<double>(), 1e-5);
    }
  }
}

TEST(PredictVerb, ShapesOfTheAnswers) {
  const TinyBert masked("BertForMaskedLM"), labels("BertForSequenceClassification"),
      tokens("BertForTokenClassification"), questions("BertForQuestionAnswering");
  const Json fill =
      answer_of({"predict", masked.path(), "--task", "fill-mask", "--text", "the [MASK] sat", "--top-k", "2"});
  ASSERT_EQ(fill["results"].size(), 2u);
  for (const char* key : {"token", "id", "score"}) EXPECT_TRUE(fill["results"][0].contains(key)) << key;
  const Json label = answer_of({"predict", labels.path(), "--task", "classify", "--text", "the cat"});
  ASSERT_EQ(label["results"].size(), 2u);
  EXPECT_TRUE(label["results"][0]["label"].get<std::string>().starts_with("LABEL_"));
  const Json token = answer_of({"predict", tokens.path(), "--task", "token-classify", "--text", "\xc3\xa9 cats"});
  ASSERT_EQ(token["results"].size(), 3u);  // [UNK] cat ##s, with places in characters
  EXPECT_EQ(token["results"][1]["start"], 2);
  EXPECT_EQ(token["results"][2]["end"], 6);
  const Json answer = answer_of({"predict", questions.path(), "--task", "qa", "--text", "who sat", "--text-pair",
                                 "the cat sat .", "--top-k", "3"});
  ASSERT_EQ(answer["results"].size(), 3u);
  for (const char* key : {"answer", "score", "start", "end"}) EXPECT_TRUE(answer["results"][0].contains(key)) << key;
}

TEST(PredictVerb, Failures) {
  const TinyBert bert("BertModel");
  const std::string m = bert.path();
  expect_failure({"predict", m, "--task", "embed"}, 2, "--text");
  expect_failure({"predict", m, "--task", "summarise", "--text", "x"}, 2, "summarise");
  expect_failure({"predict", m, "--task", "fill-mask", "--text", "[MASK]"}, 2, "masked language model");
  expect_failure({"predict", m, "--task", "classify", "--text", "x", "--pooling", "cls"}, 2, "--pooling");
  const std::string long_text = "the the the the the the the the the the the the the the the the the the";
  expect_failure({"predict", m, "--task", "embed", "--text", long_text}, 1, "20 tokens");
  EXPECT_EQ(run_program({"predict", m, "--task", "embed", "--text", long_text, "--truncate"}).code, 0);
  expect_failure({"predict", m, "--task", "embed", "--file", bert.directory().write("a.jsonl", "{\"text\": 3}\n")}, 1,
                 "a.jsonl line 1");
  expect_failure({"predict", m, "--task", "embed", "--file", bert.directory().write("b.jsonl", "\n{}\n")}, 1,
                 "b.jsonl line 2");
  const TinyModel llama;
  expect_failure({"predict", llama.path(), "--task", "qa", "--text", "a", "--text-pair", "b"}, 2, "question answering");
  // A decoder has embeddings too, in padded batches.
  EXPECT_EQ(run_program({"predict", llama.path(), "--task", "embed", "--text", "the cat"}).code, 0);
}

}  // namespace
}  // namespace ondol::testing
