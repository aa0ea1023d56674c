// ondol chat MODEL_DIR: a conversation on the terminal.
#include <iostream>

#include <unistd.h>

#include <ondol/generate/chat_template.h>

#include "generate_flags.h"
#include "model_files.h"
#include "output.h"
#include "verbs.h"

namespace {

struct Options {
  std::string model, system;
  GenerateFlags flags;
};

/// The conversation as a prompt. The oldest messages behind the first `fixed` ones are left out, in pairs, while it
/// fills the positions of the model.
std::vector<int32_t> fit_conversation(std::vector<ondol::ChatMessage>& messages, size_t fixed,
                                      const ondol::ChatTemplate& chat, const ondol::Tokenizer& tokenizer,
                                      const ondol::Model& model) {
  size_t left_out = 0;
  while (true) {
    std::vector<int32_t> ids = tokenizer.encode(chat.render(messages), {.add_special_tokens = false});
    const bool fits = static_cast<int64_t>(ids.size()) < model.info().max_positions;
    if (fits || messages.size() < fixed + 3) {
      if (left_out > 0)
        log(LogLevel::warning, ondol::concat("warning: the oldest ", left_out, " messages are left out"));
      return ids;
    }
    const auto oldest = messages.begin() + static_cast<std::ptrdiff_t>(fixed);
    messages.erase(oldest, oldest + 2);
    left_out += 2;
  }
}

void run_chat(const Options& options, const GlobalOptions& global) {
  if (global.json) throw ondol::UsageError("chat has no JSON form", "use ondol generate --chat FILE --json");
  ondol::GenerateOptions generation = options.flags.resolve(0.7f);
  ondol::check_sampling_options(generation.sampling);
  const auto model = load_model_directory(options.model, global);
  model->output_projection();  // throws before the first line is read
  const ondol::Tokenizer tokenizer = load_model_tokenizer(options.model, *model);
  const ondol::ChatTemplate chat = ondol::ChatTemplate::of(tokenizer);
  if (tokenizer.chat_template().empty()) {
    log(LogLevel::warning, "warning: the model has no chat template: using lines \"user: …\" and \"assistant: …\"");
    generation.stop.push_back("\nuser:");
  }
  generation.on_text = [](size_t, const std::string& piece) {
    write_output(piece);
    flush_output();
  };
  const std::vector<ondol::ChatMessage> start = options.system.empty()
                                                    ? std::vector<ondol::ChatMessage>()
                                                    : std::vector<ondol::ChatMessage>{{"system", options.system}};
  std::vector<ondol::ChatMessage> messages = start;
  const bool terminal = isatty(STDIN_FILENO) != 0;
  if (terminal) log(LogLevel::info, "Write a line; /reset starts over, /exit or the end of input ends.");
  while (true) {
    if (terminal) std::cerr << "> " << std::flush;
    std::string line;
    if (!std::getline(std::cin, line) || line == "/exit") return;
    if (line.empty()) continue;
    if (line == "/reset") {
      messages = start;
      continue;
    }
    messages.push_back({"user", line});
    const std::vector<int32_t> ids = fit_conversation(messages, start.size(), chat, tokenizer, *model);
    const ondol::GenerateResult result = std::move(ondol::generate_ids(*model, {ids}, generation, &tokenizer).front());
    write_output("\n");
    flush_output();
    messages.push_back({"assistant", result.text});
    ++generation.sampling.seed;
  }
}

}  // namespace

void add_chat_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = program.app.add_subcommand("chat", "Talk with a model");
  verb->add_option("MODEL_DIR", options->model, "Model directory")->required();
  verb->add_option("--system", options->system, "System message");
  options->flags.options.max_new_tokens = 512;
  options->flags.add_to(verb);
  program.run_on(verb, [options, &program] { run_chat(*options, program.global); });
}
