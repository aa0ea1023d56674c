// Runs the real program and keeps what it says; and a model small enough to make on the spot.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <fcntl.h>
#include <algorithm>
#include <string>
#include <vector>

#include <ondol/models/model.h>
#include <ondol/tokenizer/bpe_trainer.h>

#include <gtest/gtest.h>

#include "support/temporary_directory.h"

namespace ondol::testing {

struct ProgramResult {
  int code = -1;  // exit code; 128 + signal when killed
  std::string out, err;
};

/// `output` replaces the file that receives standard output.
inline ProgramResult run_program(const std::vector<std::string>& arguments, const std::string& input = "",
                                 const std::string& output = "") {
  const TemporaryDirectory scratch;
  const std::string in = scratch.write("in", input), err = scratch / "err";
  const std::string out = output.empty() ? scratch / "out" : output;
  const std::string program = ONDOL_BINARY_DIR "/bin/ondol";
  std::vector<char*> argv = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    dup2(open(in.c_str(), O_RDONLY), 0);
    dup2(open(out.c_str(), O_WRONLY | O_CREAT, 0600), 1);
    dup2(open(err.c_str(), O_WRONLY | O_CREAT, 0600), 2);
    execv(program.c_str(), argv.data());
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), output.empty() ? scratch.read("out") : "",
          scratch.read("err")};
}

/// The contract of every failure: its exit code, nothing on standard output, one `error:` line and at most one `hint:`.
inline void expect_failure(const std::vector<std::string>& arguments, int code, const std::string& what,
                           const std::string& input = "") {
  const ProgramResult result = run_program(arguments, input);
  EXPECT_EQ(result.code, code) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_TRUE(result.err.starts_with("error: ")) << result.err;
  EXPECT_NE(result.err.find(what), std::string::npos) << "wanted \"" << what << "\" in: " << result.err;
  const auto lines = std::count(result.err.begin(), result.err.end(), '\n');
  EXPECT_TRUE(lines == 1 || (lines == 2 && result.err.find("\nhint: ") != std::string::npos)) << result.err;
}

inline std::string tiny_llama_config(int64_t vocab_size) {
  return concat(R"({"model_type": "llama", "vocab_size": )", vocab_size,
                R"(, "hidden_size": 16, "intermediate_size": 32,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 48,
    "rms_norm_eps": 1e-5, "initializer_range": 0.3, "eos_token_id": 0, "bos_token_id": 0})");
}

/// A LLaMA with random weights and a byte-level tokenizer of 270 tokens; its directory is `path`.
class TinyModel {
 public:
  TinyModel() {
    directory_.write("llama.json", tiny_llama_config(270));
    save_model(*create_model(directory_ / "llama.json", DType::f32, {}, 1), path());
    BpeTrainerOptions options;
    options.vocab_size = 270;
    options.special_tokens = {"<|endoftext|>"};
    options.roles["eos"] = "<|endoftext|>";
    const std::vector<std::string> texts = {"the cat sat on the mat and the dog sat on the log, over and over"};
    train_bpe(texts, options).save(path());
  }
  const TemporaryDirectory& directory() const { return directory_; }
  std::string path() const { return directory_ / "model"; }

 private:
  TemporaryDirectory directory_;
};

}  // namespace ondol::testing
