// The verbs at work: shapes of their answers, and answers against each other and against reference data.
#include <cmath>
#include <cstdlib>
#include <fstream>

#include <ondol/io/safetensors.h>

#include <filesystem>

#include "base/json_reader.h"
#include "support/test_data.h"
#include "support/tiny_bert.h"
#include "tools/program.h"

namespace ondol::testing {
namespace {

Json run_json(std::vector<std::string> arguments, const std::string& input = "") {
  arguments.emplace_back("--json");
  const ProgramResult result = run_program(arguments, input);
  EXPECT_EQ(result.code, 0) << result.err;
  return parse_json(result.out, "answer");
}

void expect_keys(const Json& answer, const std::vector<std::string>& keys) {
  for (const std::string& key : keys) EXPECT_TRUE(answer.contains(key)) << key << " in " << answer.dump();
}

bool is_letter(char c) { return c >= 'a' && c <= 'z'; }

TEST(GenerateVerb, AnswerAndStreamAgree) {
  const TinyModel model;
  const std::vector<std::string> arguments = {"generate",         model.path(), "--prompt",      "the cat",
                                              "--max-new-tokens", "20",         "--temperature", "0.9",
                                              "--seed",           "5",          "--ignore-eos"};
  const Json answer = run_json(arguments);
  expect_keys(answer, {"prompt", "text", "tokens", "finish_reason", "prompt_tokens", "generated_tokens",
                       "seconds_prefill", "seconds_decode", "tokens_per_second"});
  EXPECT_EQ(answer["prompt"], "the cat");
  EXPECT_EQ(answer["generated_tokens"], 20);
  EXPECT_EQ(answer["tokens"].size(), 20u);
  EXPECT_EQ(answer["finish_reason"], "length");
  EXPECT_EQ(run_json(arguments)["tokens"], answer["tokens"]);

  // The stream holds the bytes themselves; JSON has U+FFFD for what is no UTF-8.
  std::vector<std::string> greedy = {"generate",         model.path(), "--prompt",    "the",
                                     "--max-new-tokens", "20",         "--ignore-eos"};
  const std::string stream = run_program(greedy).out;
  const Json same = run_json(greedy);
  std::vector<std::string> decode = {"tokenizer", "decode", model.path(), "--no-special-tokens"};
  EXPECT_EQ(run_program(decode, same["tokens"].dump()).out, stream);
}

TEST(GenerateVerb, StopStringEndsTheText) {
  const TinyModel model;
  const std::vector<std::string> arguments = {"generate",         model.path(), "--prompt",      "the",
                                              "--max-new-tokens", "30",         "--temperature", "1",
                                              "--top-k",          "3",          "--ignore-eos"};
  const std::string text = run_json(arguments)["text"];
  ASSERT_GT(text.size(), 6u);
  // Random weights write bytes of all kinds; the stop string is the first pair of letters.
  size_t at = 1;
  while (at + 1 < text.size() && !(is_letter(text[at]) && is_letter(text[at + 1]))) ++at;
  ASSERT_LT(at + 1, text.size()) << text;
  const std::string stop = text.substr(at, 2);
  std::vector<std::string> stopping = arguments;
  stopping.insert(stopping.end(), {"--stop", "never in it at all", "--stop", stop});
  const Json answer = run_json(stopping);
  EXPECT_EQ(answer["text"], text.substr(0, text.find(stop)));
  EXPECT_EQ(answer["finish_reason"], "stop");
}

TEST(GenerateVerb, PromptFileAnswersLineByLineAsAlone) {
  const TinyModel model;
  const std::string file = model.directory().write("prompts.txt", "the cat\nover and over and over\nlog\n");
  const ProgramResult together =
      run_program({"generate", model.path(), "--prompt-file", file, "--max-new-tokens", "8", "--json"});
  ASSERT_EQ(together.code, 0) << together.err;
  std::istringstream lines(together.out);
  std::string line;
  for (const char* prompt : {"the cat", "over and over and over", "log"}) {
    ASSERT_TRUE(std::getline(lines, line));
    const Json answer = parse_json(line, "line");
    EXPECT_EQ(answer["prompt"], prompt);
    const Json alone = run_json({"generate", model.path(), "--prompt", prompt, "--max-new-tokens", "8"});
    EXPECT_EQ(answer["tokens"], alone["tokens"]);
  }
  EXPECT_FALSE(std::getline(lines, line));
}

TEST(GenerateVerb, ChatFilesAndTheChatVerb) {
  const TinyModel model;
  const std::string messages = model.directory().write(
      "one.jsonl", "{\"role\": \"user\", \"content\": \"Hi\"}\n{\"role\": \"assistant\", \"content\": \"Hello\"}\n");
  const Json one = run_json({"generate", model.path(), "--chat", messages, "--max-new-tokens", "3"});
  EXPECT_EQ(one["prompt"], "user: Hi\nassistant: Hello\nassistant:");
  const std::string conversations = model.directory().write(
      "two.jsonl",
      "{\"messages\": [{\"role\": \"user\", \"content\": \"A\"}]}\n[{\"role\": \"user\", \"content\": \"B\"}]\n");
  const ProgramResult two =
      run_program({"generate", model.path(), "--chat", conversations, "--max-new-tokens", "3", "--json"});
  EXPECT_EQ(std::count(two.out.begin(), two.out.end(), '\n'), 2) << two.err;
  const ProgramResult chat =
      run_program({"chat", model.path(), "--max-new-tokens", "4"}, "Hi\n/reset\nBye\n/exit\nnever\n");
  EXPECT_EQ(chat.code, 0) << chat.err;
  EXPECT_GE(std::count(chat.out.begin(), chat.out.end(), '\n'), 2);
  std::string many;
  for (int i = 0; i < 20; ++i) many += "Hi\n";  // more than the 48 positions hold
  const ProgramResult long_chat = run_program({"chat", model.path(), "--max-new-tokens", "4"}, many);
  EXPECT_EQ(long_chat.code, 0) << long_chat.err;
  EXPECT_NE(long_chat.err.find("messages are left out"), std::string::npos) << long_chat.err;
}

TEST(GenerateVerb, ReferenceTokens) {
  ONDOL_REQUIRE_DATA("hf_tiny/llama3-rope");
  const Json answers = load_json(test::data_path("hf_tiny/llama3-rope/greedy.json"));
  for (const Json& expected : answers["results"]) {
    std::string ids;
    for (const Json& id : expected["prompt_ids"]) ids += (ids.empty() ? "" : ",") + id.dump();
    const Json answer = run_json({"generate", test::data_path("hf_tiny/llama3-rope"), "--prompt-ids", ids,
                                  "--max-new-tokens", "24", "--ignore-eos", "--dtype", "f32"});
    EXPECT_EQ(answer["tokens"], expected["tokens"]);
  }
}

TEST(ForwardVerb, EverythingThatTransformersComputed) {
  ONDOL_REQUIRE_DATA("hf_tiny/gpt2");
  const std::string directory = test::data_path("hf_tiny/gpt2");
  const TemporaryDirectory scratch;
  const ProgramResult result = run_program({"forward", directory, "--input", directory + "/inputs.safetensors",
                                            "--output", scratch / "out.safetensors", "--hidden-states", "--gradients"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, "");
  const SafetensorsFile out(scratch / "out.safetensors"), expected(directory + "/outputs.safetensors");
  const std::vector<int64_t> mask =
      SafetensorsFile(directory + "/inputs.safetensors").tensor("attention_mask").to_vector<int64_t>();
  for (const SafetensorsEntry& entry : expected.entries()) {
    ASSERT_TRUE(out.has(entry.name)) << entry.name;
    EXPECT_EQ(out.tensor(entry.name).dtype(), DType::f32);
    const std::vector<float> a = out.tensor(entry.name).to_vector<float>(),
                             b = expected.tensor(entry).to_vector<float>();
    ASSERT_EQ(a.size(), b.size()) << entry.name;
    const size_t width = a.size() < mask.size() ? 0 : a.size() / mask.size();
    for (size_t i = 0; i < a.size(); ++i) {
      if (width != 0 && mask[i / width] == 0) continue;
      ASSERT_NEAR(a[i], b[i], 2e-5) << entry.name;
    }
  }
  const SafetensorsFile gradients(directory + "/grads.safetensors");
  for (const SafetensorsEntry& entry : gradients.entries()) {
    const std::vector<float> a = out.tensor("grad." + entry.name).to_vector<float>();
    const std::vector<float> b = gradients.tensor(entry).to_vector<float>();
    ASSERT_EQ(a.size(), b.size()) << entry.name;
    float largest = 1e-3f;
    for (const float value : b) largest = std::max(largest, std::fabs(value));
    for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-4f * largest) << entry.name;
  }
}

TEST(EvalVerb, LossIsThatOfForward) {
  const TinyModel model;
  const std::string text = "the cat sat on the mat";
  const Json eval =
      run_json({"eval", model.path(), "--task", "perplexity", "--data", model.directory().write("t.txt", text)});
  expect_keys(eval, {"task", "metric", "samples", "seconds"});
  const Json encoded = run_json({"tokenizer", "encode", model.path()}, text);
  const std::vector<int32_t> ids = encoded["ids"].get<std::vector<int32_t>>();
  EXPECT_EQ(encoded["tokens"].size(), ids.size());
  const Tensor tensor = Tensor::from_vector(ids, {1, static_cast<int64_t>(ids.size())});
  write_safetensors(model.directory() / "in.safetensors", {{"input_ids", tensor}, {"labels", tensor}});
  const Json written = run_json({"forward", model.path(), "--input", model.directory() / "in.safetensors", "--output",
                                 model.directory() / "out.safetensors"});
  EXPECT_EQ(written["output"], model.directory() / "out.safetensors");
  EXPECT_EQ(written["tensors"], Json({"logits", "last_hidden_state", "loss"}));
  const double loss = SafetensorsFile(model.directory() / "out.safetensors").tensor("loss").item();
  EXPECT_NEAR(eval["metric"]["loss"].get<double>(), loss, 1e-6);
  EXPECT_NEAR(eval["metric"]["perplexity"].get<double>(), std::exp(loss), 1e-5 * std::exp(loss));
  EXPECT_EQ(eval["tokens"].get<size_t>(), ids.size() - 1);
}

TEST(TokenizerVerb, TrainEncodeDecode) {
  const TinyModel model;
  const TemporaryDirectory& directory = model.directory();
  const std::string corpus = directory.write("corpus.txt", "low lower lowest\nnew newer newest\n\nlow low low\n");
  const Json trained = run_json({"tokenizer", "train", "--type", "bpe", "--vocab-size", "265", "--input", corpus,
                                 "--output", directory / "tokenizer"});
  EXPECT_EQ(trained["vocab_size"], 265);
  const std::string tokenizer = directory / "tokenizer";
  const std::string text = "lowest 서울 newer";
  std::string ids = run_program({"tokenizer", "encode", tokenizer, "-"}, text).out;
  EXPECT_EQ(run_program({"tokenizer", "decode", tokenizer, "-"}, ids).out, text + "\n");
  EXPECT_EQ(run_json({"tokenizer", "decode", tokenizer}, ids)["text"], text);

  const ProgramResult lines = run_program({"tokenizer", "encode", tokenizer, "--file", corpus, "--json"});
  EXPECT_EQ(std::count(lines.out.begin(), lines.out.end(), '\n'), 4);
  const std::string jsonl = directory.write("c.jsonl", "{\"text\": \"low\"}\n{\"text\": \"a\\nb\"}\n");
  const ProgramResult objects = run_program({"tokenizer", "encode", tokenizer, "--file", jsonl, "--json"});
  EXPECT_EQ(std::count(objects.out.begin(), objects.out.end(), '\n'), 2) << objects.err;
}

TEST(TokenizerVerb, WordPieceAndUnigram) {
  const TinyModel model;
  const TemporaryDirectory& directory = model.directory();
  const std::string corpus = directory.write("corpus.txt", "low lower lowest\nnew newer newest\n\nlow low low\n");
  for (const auto& [type, size] : {std::pair("wordpiece", "40"), {"unigram", "290"}}) {
    const std::string output = directory / type;
    const Json trained =
        run_json({"tokenizer", "train", "--type", type, "--vocab-size", size, "--input", corpus, "--output", output});
    EXPECT_LE(trained["vocab_size"].get<int>(), std::atoi(size));
    EXPECT_EQ(std::ifstream(output + "/vocab.txt").good(), std::string(type) == "wordpiece");
    const Json answer = run_json({"tokenizer", "encode", output, "--offsets", "--text-pair", "new"}, "low lowest");
    const size_t count = answer["ids"].size();
    EXPECT_EQ(answer["tokens"].size(), count);
    EXPECT_EQ(answer["offsets"].size(), count);
    EXPECT_EQ(answer["type_ids"].back(), 1);
    EXPECT_EQ(run_json({"tokenizer", "encode", output, "--max-length", "3"}, "low lowest newest")["ids"].size(), 3u);
    EXPECT_EQ(run_json({"tokenizer", "decode", output, "--no-special-tokens"},
                       run_program({"tokenizer", "encode", output}, "low lowest").out)["text"],
              "low lowest");
  }
  EXPECT_EQ(run_program({"tokenizer", "encode", directory / "unigram", "--offsets"}, "low").code, 2);
  run_json({"tokenizer", "train", "--type", "unigram", "--vocab-size", "290", "--sentinels", "3", "--input", corpus,
            "--output", directory / "t5"});
  const Json sentinels = run_json({"tokenizer", "encode", directory / "t5"}, "low<extra_id_0>new<extra_id_2>");
  EXPECT_EQ(std::count(sentinels["tokens"].begin(), sentinels["tokens"].end(), "<extra_id_0>"), 1) << sentinels;
  EXPECT_EQ(std::count(sentinels["tokens"].begin(), sentinels["tokens"].end(), "<extra_id_2>"), 1) << sentinels;
}

TEST(DataVerb, PrepareAndInspect) {
  const TinyModel model;
  const TemporaryDirectory& directory = model.directory();
  const std::string corpus = directory.write("corpus.txt", "the cat sat\nthe dog sat on the log\n");
  const Json prepared = run_json({"data", "prepare", "--tokenizer", model.path(), "--input", corpus, "--separator",
                                  "line", "--output", directory / "tokens"});
  EXPECT_EQ(prepared["documents"], 2);
  const Json inspected = run_json({"inspect", directory / "tokens.bin"});
  EXPECT_EQ(inspected["kind"], "tokens");
  EXPECT_EQ(inspected["tokens"], prepared["tokens"]);
  const std::string config = directory.write(
      "train.json", concat(R"({"model": {"config": ")", directory / "llama.json", R"("}, "tokenizer": {"path": ")",
                           model.path(), R"("}, "data": {"train": [{"path": ")", directory / "tokens.bin",
                           R"("}], "sequence_length": 4, "shuffle": false}, "train": {"steps": 1, "batch_size": 1}})"));
  const Json batch = run_json({"data", "inspect", config});
  const Json ids = run_json({"tokenizer", "encode", model.path()}, "the cat sat")["ids"];
  ASSERT_GE(ids.size(), 4u);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(batch["input_ids"][0][i], ids[i]);
  EXPECT_EQ(batch["labels"][0][0], ids[1]);
  // A fine-tuning configuration finds the tokenizer beside its model, as training does.
  const std::string tune = directory.write(
      "tune.json", concat(R"({"model": {"from": ")", model.path(), R"("}, "data": {"train": [{"path": ")", corpus,
                          R"("}], "sequence_length": 4, "shuffle": false}, "train": {"steps": 1, "batch_size": 1},
                          "output": ")",
                          directory / "tune", "\"}"));
  EXPECT_EQ(run_json({"data", "inspect", tune})["input_ids"], batch["input_ids"]);
}

TEST(BenchVerb, KeysOfTheContract) {
  const TinyModel model;
  const std::string config = model.directory() / "llama.json";
  const Json train =
      run_json({"bench", "train", "--config", config, "--batch", "2", "--seq", "16", "--steps", "2", "--warmup", "1"});
  expect_keys(train, {"tokens_per_second_median", "tokens_per_second_best", "step_seconds_median", "peak_memory_bytes",
                      "dtype", "device", "threads"});
  // Random labels over 270 - 5 ids: the loss starts near that of guessing.
  EXPECT_NEAR(train["last_loss"].get<double>(), std::log(270.0), 1.5);
  const TinyBert bert("BertForMaskedLM");
  const Json masked = run_json({"bench", "train", "--config", bert.path(), "--task", "mlm", "--batch", "8", "--seq",
                                "16", "--steps", "2", "--warmup", "1"});
  EXPECT_GT(masked["last_loss"].get<double>(), 0.5);
  expect_failure({"bench", "train", "--config", bert.path(), "--batch", "1", "--seq", "8"}, 2, "BertForMaskedLM");
  const Json generate =
      run_json({"bench", "generate", "--config", config, "--prompt", "8", "--new", "4", "--repeats", "1"});
  expect_keys(generate, {"prefill_tokens_per_second", "decode_tokens_per_second"});
}

TEST(DoctorVerb, PassesItsSelfTest) {
  const Json report = run_json({"doctor"});
  expect_keys(report, {"build", "cpu", "gpus", "libraries", "self_test", "passed"});
  EXPECT_TRUE(report["passed"].get<bool>());
  EXPECT_GE(report["self_test"].size(), 7u);
}

TEST(InspectVerb, ModelsAndRuns) {
  const TinyModel model;
  const Json report = run_json({"inspect", model.path()});
  EXPECT_EQ(report["kind"], "model");
  EXPECT_EQ(report["model_type"], "llama");
  EXPECT_EQ(report["tokenizer_tokens"], 270);
  EXPECT_EQ(run_json({"inspect", model.path() + "/model.safetensors"})["elements"], report["elements"]);
}

TEST(ConvertVerb, EveryVerbTakesTheGgufFile) {
  const TinyModel model;
  const std::string gguf = model.directory() / "model.gguf", back = model.directory() / "back";
  const Json report = run_json({"convert", model.path(), gguf});
  EXPECT_EQ(report["tensors"], run_json({"inspect", model.path()})["tensors"].size());
  const Json inspected = run_json({"inspect", gguf});
  EXPECT_EQ(inspected["kind"], "gguf");
  EXPECT_EQ(inspected["metadata"]["llama.block_count"], 2);
  EXPECT_EQ(inspected["metadata"]["tokenizer.ggml.tokens"]["length"], 270);
  const auto answer = [](const std::string& path) {
    return run_json({"generate", path, "--prompt", "the cat", "--max-new-tokens", "8", "--ignore-eos"});
  };
  EXPECT_EQ(answer(gguf)["tokens"], answer(model.path())["tokens"]);
  EXPECT_EQ(answer(gguf)["text"], answer(model.path())["text"]);
  const ProgramResult chat = run_program({"chat", gguf, "--max-new-tokens", "3"}, "hello\n");
  EXPECT_EQ(chat.code, 0) << chat.err;
  const std::string text = model.directory().write("text.txt", "the cat sat on the mat");
  const auto loss = [&](const std::string& path) {
    return run_json({"eval", path, "--task", "perplexity", "--data", text})["metric"]["loss"];
  };
  EXPECT_EQ(loss(gguf), loss(model.path()));
  EXPECT_EQ(run_program({"convert", gguf, back}).code, 0);
  EXPECT_EQ(model.directory().read("back/tokenizer.json"), model.directory().read("model/tokenizer.json"));
  EXPECT_EQ(answer(back)["tokens"], answer(model.path())["tokens"]);
  EXPECT_EQ(run_program({"convert", gguf, model.directory() / "q.gguf", "--dtype", "q8_0"}).code, 0);
  EXPECT_EQ(run_json({"convert", model.path(), model.directory() / "s", "--max-shard-size", "10KB"})["tensors"],
            report["tensors"]);
  EXPECT_TRUE(std::filesystem::exists(model.directory() / "s/model.safetensors.index.json"));
}

}  // namespace
}  // namespace ondol::testing
