#include "fuzz/targets.h"

#include <ondol/base/error.h>

#include "support/temporary_directory.h"

namespace ondol::fuzz {

namespace {

constexpr Target kTargets[] = {
    {"safetensors", run_safetensors, safetensors_seeds},
    {"gguf", run_gguf, gguf_seeds},
    {"gguf_model", run_gguf_model, gguf_model_seeds},
    {"tokenizer_json", run_tokenizer_json, tokenizer_json_seeds},
    {"tokenizer_config", run_tokenizer_config, tokenizer_config_seeds},
    {"vocab_merges", run_vocab_merges, vocab_merges_seeds},
    {"sentencepiece", run_sentencepiece, sentencepiece_seeds},
    {"bpe_text", run_bpe_text, bpe_text_seeds},
    {"json", run_json, json_seeds},
    {"model_config", run_model_config, model_config_seeds},
    {"train_config", run_train_config, train_config_seeds},
    {"token_file", run_token_file, token_file_seeds},
    {"documents", run_documents, documents_seeds},
    {"json_row", run_json_row, json_row_seeds},
    {"clean_text", run_clean_text, clean_text_seeds},
    {"manifest", run_manifest, manifest_seeds},
    {"trainer_state", run_trainer_state, trainer_state_seeds},
    {"metrics", run_metrics, metrics_seeds},
    {"chat_template", run_chat_template, chat_template_seeds},
    {"conversation", run_conversation, conversation_seeds},
    {"store_protocol", run_store_protocol, store_protocol_seeds},
    {"records", run_records, records_seeds},
    {"chat_row", run_chat_row, chat_row_seeds},
    {"adapter_config", run_adapter_config, adapter_config_seeds},
};

const testing::TemporaryDirectory& scratch() {
  static const testing::TemporaryDirectory directory;
  return directory;
}

bool is_one_line(const std::string& message) {
  if (message.empty() || message.size() > 4000) return false;
  for (const char c : message) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
  }
  return true;
}

}  // namespace

std::span<const Target> targets() { return kTargets; }

const Target& find_target(std::string_view name) {
  for (const Target& target : kTargets) {
    if (name == target.name) return target;
  }
  throw std::invalid_argument("no fuzz target " + std::string(name));
}

bool accepts(const std::function<void()>& reader) {
  try {
    reader();
    return true;
  } catch (const Error& error) {
    if (!is_one_line(error.what())) {
      throw Finding(concat("the message is not one printable line: ", std::string(error.what()).substr(0, 4000)));
    }
    return false;
  }
}

void promise(bool holds, const char* what) {
  if (!holds) throw Finding(what);
}

std::string scratch_file(const std::string& name, std::string_view bytes) {
  return scratch().write(name, std::string(bytes));
}

std::string scratch_directory() { return scratch().path(); }

}  // namespace ondol::fuzz
