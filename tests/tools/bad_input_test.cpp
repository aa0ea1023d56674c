// What users and broken files hand in: one line that names the fault, the right exit code, earlier files untouched.
#include <ondol/io/safetensors.h>

#include "base/json_reader.h"
#include "tools/program.h"

namespace ondol::testing {
namespace {

namespace fs = std::filesystem;

class BadInput : public ::testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& content) const {
    return model_.directory().write(name, content);
  }
  std::string path(const std::string& name) const { return model_.directory() / name; }

  /// A configuration over `text` that would work.
  std::string config(const std::string& text, const std::string& extra = "") const {
    return file("train.json",
                concat(R"({"model": {"config": ")", path("llama.json"), R"("}, "tokenizer": {"path": ")", model_.path(),
                       R"("}, "data": {"train": [{"path": ")", text,
                       R"("}], "sequence_length": 16}, "train": {"steps": 2, "batch_size": 2}, "output": ")",
                       path("run"), "\"", extra, "}"));
  }
  std::string good_text() const {
    std::string text;
    for (int i = 0; i < 40; ++i) text += "the cat sat on the mat\n";
    return file("good.txt", text);
  }

  const TinyModel model_;
};

TEST_F(BadInput, GgufFilesAndConversions) {
  const std::string m = model_.path(), out = path("out");
  expect_failure({"generate", file("cut.gguf", "GGUF\3"), "--prompt", "a"}, 1, "cut.gguf");
  expect_failure({"inspect", file("old.gguf", std::string("GGUF\1\0\0\0", 8))}, 1, "version 1");
  expect_failure({"convert", m, out, "--dtype", "q4_0"}, 2, "no quantised blocks");
  expect_failure({"convert", m, out, "--dtype", "int3"}, 2, "int3");
  expect_failure({"convert", m, out, "--max-shard-size", "5 parsecs"}, 2, "--max-shard-size");
  expect_failure({"convert", m, m}, 2, "the destination exists");
  expect_failure({"convert", path("absent"), out}, 2, "absent");
  expect_failure({"convert", file("pytorch_model.bin", "PK\3\4 pickled"), out}, 1, "pytorch_model.bin");
  expect_failure({"convert", file("weights.pt", "\x80\2 pickled"), out}, 2, "pickle files can run code");
  EXPECT_FALSE(fs::exists(out));
}

TEST_F(BadInput, TrainingConfigurations) {
  const std::string good = config(good_text());
  EXPECT_EQ(run_program({"train", good, "--dry-run"}).code, 0);
  expect_failure({"train", path("absent.json")}, 2, "absent.json");
  expect_failure({"train", good, "--set", "train.stpes=3"}, 2, "train.stpes");
  expect_failure({"train", good, "--set", "train.stpes=3"}, 2, "did you mean");
  expect_failure({"train", good, "--set", "train.steps=\"many\""}, 2, "train.steps");
  expect_failure({"train", good, "--set", "data.sequence_length=0"}, 2, "data.sequence_length");
  expect_failure({"train", good, "--set", "data.sequence_length=64"}, 2, "48");
  expect_failure({"train", file("cut.json", R"({"model": {)")}, 2, "cut.json");
  expect_failure({"train", good, "--set", "train.batch_size=9223372036854775807"}, 2, "train.batch_size");
  expect_failure({"train", good, "--set", "data.train=[{\"path\":\"a\",\"path\":\"b\"}]"}, 2, "duplicate key");
  expect_failure({"train", good, "--set", "objective.type=tensors"}, 2, "\"labels\"");
  expect_failure({"train", good, "--set", "objective.type=mlm"}, 2, "masked language modelling head");
  expect_failure({"train", good, "--set", "objective.type=span_corruption"}, 2, "encoder-decoder");
  expect_failure({"train", good, "--set", "objective.masking=span"}, 2, "objective.masking");
  expect_failure({"train", good, "--set", "output=\xff"}, 2, "UTF-8");
  expect_failure({"train", good, "--output", ""}, 2, "--output");
  // Mistakes in a later stage are found before the first one is trained.
  const std::string later = "stages=[{\"train\":{\"steps\":1}},{\"data\":";
  expect_failure({"train", good, "--set", later + "{\"sequence_length\":64}}]"}, 2, "48 positions");
  expect_failure({"train", good, "--set", later + "{\"train\":[{\"path\":\"absent.txt\"}]}}]"}, 2, "absent.txt");
  EXPECT_FALSE(fs::exists(path("run")));
  expect_failure({"train", config(path("absent.txt"))}, 2, "absent.txt");
  expect_failure({"train", config(file("empty.txt", ""))}, 2, "empty.txt");
  expect_failure({"train", config(file("short.txt", "the cat"))}, 2, "short.txt");
  EXPECT_FALSE(fs::exists(path("run/final")));
}

TEST_F(BadInput, FinishedSamplesThatDoNotFit) {
  const auto train = [&](const NamedTensors& rows) {
    write_safetensors(path("rows.safetensors"), rows);
    return std::vector<std::string>{"train", config(path("rows.safetensors")), "--set", "objective.type=tensors"};
  };
  const Tensor ids = Tensor::zeros({4, 8}, DType::i32), mask = Tensor::full({4, 8}, 1, DType::i32);
  EXPECT_EQ(run_program(train({{"input_ids", ids}, {"labels", mask}, {"attention_mask", mask}})).code, 0);
  fs::remove_all(path("run"));
  expect_failure(train({{"input_ids", ids}}), 2, "\"labels\"");
  expect_failure(train({{"input_ids", ids}, {"labels", ids.narrow(1, 0, 4)}}), 2, "\"labels\" is (1, 4)");
  expect_failure(train({{"input_ids", ids}, {"labels", ids.to(DType::f32)}}), 2, "\"labels\" holds f32");
  expect_failure(train({{"input_ids", ids}, {"labels", ids}, {"attention_mask", mask.narrow(1, 0, 4)}}), 2, "(1, 4)");
  expect_failure(train({{"input_ids", ids}, {"labels", ids}, {"attention_mask", mask.to(DType::f32)}}), 2, "f32");
  expect_failure(train({{"input_ids", ids}, {"labels", ids}, {"pixels", ids}}), 2, "\"pixels\"");
  const Tensor odd_mask = Tensor::full({4, 8}, 256, DType::i32);
  std::vector<std::string> odd = train({{"input_ids", ids}, {"labels", ids}, {"attention_mask", odd_mask}});
  odd.push_back("--quiet");
  expect_failure(odd, 1, "256 in \"attention_mask\"");
  fs::remove_all(path("run"));
  const Tensor long_ids = Tensor::zeros({4, 49}, DType::i32), no_ids = Tensor::zeros({4, 0}, DType::i32);
  expect_failure(train({{"input_ids", long_ids}, {"labels", long_ids}}), 2, "48 positions");
  expect_failure(train({{"input_ids", no_ids}, {"labels", no_ids}}), 1, "input_ids");
  EXPECT_FALSE(fs::exists(path("run")));
}

TEST_F(BadInput, UnwritableRunDirectory) {
  file("occupied", "kept");
  const std::string good = config(good_text());
  const ProgramResult result = run_program({"train", good, "--output", path("occupied/run"), "--quiet"});
  EXPECT_EQ(result.code, 1) << result.err;
  EXPECT_NE(result.err.find("occupied"), std::string::npos) << result.err;
  EXPECT_EQ(model_.directory().read("occupied"), "kept");
}

TEST_F(BadInput, ModelConfigurations) {
  const auto bench = [&](const std::string& config_path) {
    return std::vector<std::string>{"bench", "train", "--config", config_path, "--batch", "1", "--seq", "8"};
  };
  expect_failure(bench(path("absent.json")), 2, "absent.json");
  std::string odd = tiny_llama_config(270);
  odd.replace(odd.find("\"num_attention_heads\": 2"), 24, "\"num_attention_heads\": 3");
  expect_failure(bench(file("odd.json", odd)), 2, "num_attention_heads");
  std::string kv = tiny_llama_config(270);
  kv.replace(kv.find("\"num_key_value_heads\": 1"), 24, "\"num_key_value_heads\": 4");
  expect_failure(bench(file("kv.json", kv)), 2, "num_key_value_heads");
  std::string activation = tiny_llama_config(270);
  activation.insert(1, "\"hidden_act\": \"sine\", ");
  expect_failure(bench(file("sine.json", activation)), 2, "key \"hidden_act\": unknown activation \"sine\"");
  std::string heads = tiny_llama_config(270);
  heads.insert(1, "\"head_dim\": 7, ");
  expect_failure(bench(file("heads.json", heads)), 2, "must be even");
  expect_failure(bench(file("other.json", R"({"model_type": "perceptron"})")), 2, "perceptron");
  expect_failure({"bench", "train", "--config", path("llama.json"), "--batch", "1", "--seq", "49"}, 2, "48 positions");
}

TEST_F(BadInput, ModelDirectories) {
  const std::vector<std::string> generate = {"generate", model_.path(), "--prompt", "the cat"};
  EXPECT_EQ(run_program(generate).code, 0);
  expect_failure({"generate", path("absent"), "--prompt", "x"}, 2, "absent");
  expect_failure({"generate", model_.directory().path(), "--prompt", "x"}, 2, "config.json");

  const std::string weights = model_.path() + "/model.safetensors";
  const auto size = fs::file_size(weights);
  fs::resize_file(weights, size - 100);
  expect_failure(generate, 1, "model.safetensors");
  fs::resize_file(weights, 4);
  expect_failure(generate, 1, "model.safetensors");
  fs::remove(weights);
  expect_failure(generate, 1, "model");
}

TEST_F(BadInput, ConfigurationsThatClaimMoreThanTheWeights) {
  const std::vector<std::string> generate = {"generate", model_.path(), "--prompt-ids", "1,2", "--max-new-tokens", "2"};
  const auto rewrite = [&](const std::string& key, const std::string& value) {
    Json document = load_json(model_.path() + "/config.json");
    document[key] = Json::parse(value);
    file("model/config.json", document.dump());
  };
  // A petabyte of embeddings is refused by the file's shape, before anything is allocated.
  rewrite("vocab_size", "268435456");
  expect_failure(generate, 1, "has shape (270, 16), the configuration asks for (268435456, 16)");
  rewrite("vocab_size", "270");
  rewrite("num_hidden_layers", "9999");
  expect_failure(generate, 1, "layers.2.");
  rewrite("num_hidden_layers", "2");
  // Tables for positions grow with the positions that are used.
  rewrite("max_position_embeddings", "268435456");
  const ProgramResult bench =
      run_program({"bench", "generate", "--model", model_.path(), "--prompt", "4", "--new", "4", "--json"});
  ASSERT_EQ(bench.code, 0) << bench.err;
  EXPECT_LT(parse_json(bench.out, "bench")["peak_memory_bytes"].get<int64_t>(), int64_t{1} << 20);
  file("model/generation_config.json", "[]");
  expect_failure(generate, 2, "model/generation_config.json");
}

TEST_F(BadInput, VocabularyLargerThanTheEmbedding) {
  file("small.json", tiny_llama_config(100));
  save_model(*create_model(path("small.json"), DType::f32, {}, 1), model_.path());
  expect_failure({"generate", model_.path(), "--prompt", "the cat"}, 2, "270 tokens");
  EXPECT_EQ(run_program({"generate", model_.path(), "--prompt-ids", "1,2"}).code, 0);
}

TEST_F(BadInput, Prompts) {
  const std::string& m = model_.path();
  expect_failure({"generate", m}, 2, "--prompt");
  expect_failure({"generate", m, "--prompt", "a", "--prompt-ids", "1"}, 2, "give one of");
  expect_failure({"generate", m, "--prompt-ids", "1,x"}, 2, "--prompt-ids");
  expect_failure({"generate", m, "--prompt-ids", ""}, 2, "empty");
  expect_failure({"generate", m, "--prompt-ids", "1,270"}, 2, "token id 270");
  expect_failure({"generate", m, "--prompt-ids", "99999999999"}, 2, "--prompt-ids");
  std::string long_prompt = "1";
  for (int i = 0; i < 60; ++i) long_prompt += ",1";
  expect_failure({"generate", m, "--prompt-ids", long_prompt}, 2, "48 positions");
  expect_failure({"generate", m, "--prompt", "a", "--temperature", "-1"}, 2, "temperature");
  expect_failure({"generate", m, "--prompt", "a", "--beams", "3", "--temperature", "1"}, 2, "beam search");
  expect_failure({"generate", m, "--prompt", "a", "--seed", "-1"}, 2, "--seed");
  expect_failure({"generate", m, "--prompt", "a", "--max-new-tokens", "99999999999999999999"}, 2, "--max-new-tokens");
  expect_failure({"generate", m, "--prompt", "a", "--beams", "2", "--length-penalty", "nan"}, 2, "length_penalty");
  expect_failure({"generate", m + "/config.json", "--prompt", "a"}, 2, "neither a directory nor a GGUF file");
  expect_failure({"generate", m, "--prompt-file", file("none.txt", "")}, 2, "none.txt");
  expect_failure({"generate", m, "--chat", file("chat.jsonl", "{\"role\": \"user\"")}, 2, "chat.jsonl line 1");
  expect_failure({"generate", m, "--chat", file("chat2.jsonl", "{\"text\": \"x\"}")}, 2, "neither a message");
  const auto chat = [&](const std::string& text) {
    return std::vector<std::string>{"generate", m, "--chat", file("chat3.jsonl", text)};
  };
  expect_failure(chat("\n\n"), 2, "no conversation in it");
  expect_failure(chat("\n{\"messages\": 5}\n"), 2, "chat3.jsonl line 2");
  expect_failure(chat("{\"messages\": []}\n"), 2, "\"messages\" must be a list");
  expect_failure(chat("{\"messages\": [{\"role\": 5}]}\n"), 2, "\"role\"");
  expect_failure(chat("{\"messages\": [{\"role\": \"user\"}]}\n"), 2, "chat3.jsonl line 1");
}

TEST_F(BadInput, ForwardLeavesAnEarlierOutputAlone) {
  const std::string output = file("out.safetensors", "earlier");
  const auto forward = [&](const std::string& input) {
    return std::vector<std::string>{"forward", model_.path(), "--input", input, "--output", output};
  };
  const auto tensors = [&](const std::string& name, const NamedTensors& list) {
    write_safetensors(path(name), list);
    return path(name);
  };
  const Tensor ids = Tensor::from_vector(std::vector<int32_t>{1, 2, 3, 4}, {1, 4});
  expect_failure(forward(path("absent.safetensors")), 1, "absent.safetensors");
  expect_failure(forward(file("noise.safetensors", "this is no safetensors file")), 1, "noise.safetensors");
  expect_failure(forward(tensors("none.safetensors", {{"labels", ids}})), 2, "\"input_ids\" is missing");
  expect_failure(forward(tensors("extra.safetensors", {{"input_ids", ids}, {"pixels", ids}})), 2, "\"pixels\"");
  expect_failure(forward(tensors("float.safetensors", {{"input_ids", ids.to(DType::f32)}})), 2, "integers");
  expect_failure(forward(tensors("shape.safetensors", {{"input_ids", ids.reshape({4})}})), 2, "(B, T)");
  expect_failure(forward(tensors("mask.safetensors", {{"input_ids", ids}, {"attention_mask", ids.reshape({4, 1})}})), 2,
                 "attention_mask");
  const Tensor odd_mask = Tensor::full({1, 4}, 256, DType::i32);
  expect_failure(forward(tensors("odd.safetensors", {{"input_ids", ids}, {"attention_mask", odd_mask}})), 2, "256");
  const Tensor outside = Tensor::from_vector(std::vector<int32_t>{1, 270}, {1, 2});
  expect_failure(forward(tensors("id.safetensors", {{"input_ids", outside}})), 1, "270");
  const Tensor long_ids = Tensor::zeros({1, 49}, DType::i32);
  expect_failure(forward(tensors("long.safetensors", {{"input_ids", long_ids}})), 2, "48 positions");
  std::vector<std::string> gradients = forward(tensors("ids.safetensors", {{"input_ids", ids}}));
  gradients.push_back("--gradients");
  expect_failure(gradients, 2, "labels");
  EXPECT_EQ(model_.directory().read("out.safetensors"), "earlier");
  expect_failure({"forward", model_.path(), "--input", path("ids.safetensors"), "--output", path("out.safetensors/x")},
                 1, "out.safetensors");
  EXPECT_EQ(model_.directory().read("out.safetensors"), "earlier");
  EXPECT_EQ(run_program(forward(path("ids.safetensors"))).code, 0);
  EXPECT_TRUE(SafetensorsFile(output).has("logits"));
}

TEST_F(BadInput, TextsAndIds) {
  const std::string& m = model_.path();
  expect_failure({"tokenizer", "encode", path("absent")}, 2, "absent");
  expect_failure({"tokenizer", "encode", m, "--file", path("absent.txt")}, 1, "absent.txt");
  expect_failure({"tokenizer", "encode", m, "--file", file("bad.jsonl", "{\"body\": 1}\n")}, 2, "bad.jsonl line 1");
  const std::string gaps = file("gaps.jsonl", "{\"text\": \"the\"}\n\n{\"text\": \"cat\"}\n");
  const ProgramResult encoded = run_program({"tokenizer", "encode", m, "--file", gaps});
  EXPECT_EQ(std::count(encoded.out.begin(), encoded.out.end(), '\n'), 2) << encoded.err;
  expect_failure({"tokenizer", "train", "--vocab-size", "300", "--input", good_text(), "--output", ""}, 2, "--output");
  expect_failure({"data", "prepare", "--tokenizer", m, "--input", good_text(), "--output", ""}, 2, "--output");
  expect_failure({"data", "prepare", "--tokenizer", m, "--input", good_text(), "--output", path("x/")}, 2, "name");
  expect_failure({"tokenizer", "decode", m}, 2, "standard input", "12 cats");
  expect_failure({"tokenizer", "decode", m}, 1, "100000", "100000");
  expect_failure({"tokenizer", "train", "--vocab-size", "10", "--input", good_text(), "--output", path("t")}, 2, "10");
  expect_failure(
      {"tokenizer", "train", "--type", "magic", "--vocab-size", "300", "--input", good_text(), "--output", path("t")},
      2, "magic");
  expect_failure({"eval", m, "--task", "perplexity", "--data", file("empty.txt", "")}, 2, "empty.txt");
  expect_failure({"eval", m, "--task", "perplexity", "--data", good_text(), "--window", "64"}, 2, "48 positions");
  expect_failure({"data", "prepare", "--tokenizer", m, "--input", path("absent.txt"), "--output", path("p")}, 2,
                 "absent.txt");
  expect_failure({"inspect", path("absent")}, 2, "absent");
  expect_failure({"inspect", good_text()}, 2, "unknown kind of file");
  EXPECT_FALSE(fs::exists(path("t")));
  EXPECT_FALSE(fs::exists(path("p.bin")));
}

}  // namespace
}  // namespace ondol::testing
