// What main.cpp and the verbs share. A verb is one file with one function that adds its subcommand and says what to
// run:
//
//   void add_example_verb(Program& program) {
//     auto options = std::make_shared<Options>();
//     CLI::App* verb = program.app.add_subcommand("example", "One line of help");
//     verb->add_option("MODEL_DIR", options->model, "Model directory")->required();
//     program.run_on(verb, [&program, options] { run(*options, program.global); });
//   }
//
// It is declared here and listed in main.cpp. Results go to write_output (output.h), everything else to log. Failures
// are ondol::Error or UsageError; main prints them.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <CLI/App.hpp>

#include <ondol/base/dtype.h>

/// Flags that every verb takes, before or after its name.
struct GlobalOptions {
  std::string device = "auto";
  std::string dtype_name;  // "f32", "bf16", or empty: the verb's default
  int threads = 0;         // 0: all CPUs of this process
  bool quiet = false;
  std::string log_level = "info";
  bool json = false;

  std::optional<ondol::DType> dtype() const;
};

struct Program {
  CLI::App app;
  GlobalOptions global;
  std::vector<std::string> launched;  // the command that `launch` is to run
  std::function<void()> action;       // what the chosen verb runs after the command line has been read

  void run_on(CLI::App* verb, std::function<void()> run) {
    verb->callback([this, run = std::move(run)] { action = run; });
  }
};

void add_bench_verb(Program& program);
void add_chat_verb(Program& program);
void add_data_verb(Program& program);
void add_doctor_verb(Program& program);
void add_eval_verb(Program& program);
void add_forward_verb(Program& program);
void add_generate_verb(Program& program);
void add_convert_verb(Program& program);
void add_inspect_verb(Program& program);
void add_launch_verb(Program& program);
void add_plot_verb(Program& program);
void add_predict_verb(Program& program);
void add_tokenizer_verb(Program& program);
void add_train_verb(Program& program);
