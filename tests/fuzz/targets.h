// Readers of files from strangers, each as a function of arbitrary bytes.
//
//   for (const Target& target : targets()) target.run(bytes);
//
// A target accepts its input or refuses it with an ondol::Error whose message is one printable line; whatever else
// happens (another exception, a signal, a sanitizer report, a broken promise about what was accepted) is a finding. The
// same functions run under libFuzzer (libfuzzer_main.cpp) and, with a fixed number of mutations of their seeds, in
// every test run (replay_test.cpp).
#pragma once

#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace ondol::fuzz {

struct Target {
  const char* name;
  void (*run)(std::string_view input);
  std::vector<std::string> (*seeds)();
};

/// A promise that did not hold.
struct Finding : std::logic_error {
  using std::logic_error::logic_error;
};

std::span<const Target> targets();
/// Throws std::invalid_argument for an unknown name.
const Target& find_target(std::string_view name);

/// Runs `reader`; true when it accepted the input. Throws Finding when an Error's message is not one printable line.
bool accepts(const std::function<void()>& reader);

/// Throws Finding when `holds` is false.
void promise(bool holds, const char* what);

/// Writes a file of the scratch directory of this process and returns its path.
std::string scratch_file(const std::string& name, std::string_view bytes);
std::string scratch_directory();

void run_safetensors(std::string_view input);
std::vector<std::string> safetensors_seeds();
void run_gguf(std::string_view input);
std::vector<std::string> gguf_seeds();
void run_gguf_model(std::string_view input);
std::vector<std::string> gguf_model_seeds();
void run_tokenizer_json(std::string_view input);
std::vector<std::string> tokenizer_json_seeds();
void run_tokenizer_config(std::string_view input);
std::vector<std::string> tokenizer_config_seeds();
void run_vocab_merges(std::string_view input);
std::vector<std::string> vocab_merges_seeds();
void run_sentencepiece(std::string_view input);
std::vector<std::string> sentencepiece_seeds();
void run_bpe_text(std::string_view input);
std::vector<std::string> bpe_text_seeds();
void run_json(std::string_view input);
std::vector<std::string> json_seeds();
void run_model_config(std::string_view input);
std::vector<std::string> model_config_seeds();
void run_train_config(std::string_view input);
std::vector<std::string> train_config_seeds();
void run_token_file(std::string_view input);
std::vector<std::string> token_file_seeds();
void run_documents(std::string_view input);
std::vector<std::string> documents_seeds();
void run_json_row(std::string_view input);
std::vector<std::string> json_row_seeds();
void run_clean_text(std::string_view input);
std::vector<std::string> clean_text_seeds();
void run_manifest(std::string_view input);
std::vector<std::string> manifest_seeds();
void run_trainer_state(std::string_view input);
std::vector<std::string> trainer_state_seeds();
void run_metrics(std::string_view input);
std::vector<std::string> metrics_seeds();
void run_chat_template(std::string_view input);
std::vector<std::string> chat_template_seeds();
void run_conversation(std::string_view input);
std::vector<std::string> conversation_seeds();
void run_store_protocol(std::string_view input);
std::vector<std::string> store_protocol_seeds();
void run_records(std::string_view input);
std::vector<std::string> records_seeds();
void run_chat_row(std::string_view input);
std::vector<std::string> chat_row_seeds();
void run_adapter_config(std::string_view input);
std::vector<std::string> adapter_config_seeds();

}  // namespace ondol::fuzz
