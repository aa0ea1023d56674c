// ondol generate MODEL_DIR: text from prompts, streamed as it is made.
#include <algorithm>
#include <charconv>

#include <ondol/base/text_reader.h>
#include <ondol/generate/chat_template.h>

#include "base/json_reader.h"
#include "generate_flags.h"
#include "json_output.h"
#include "model_files.h"
#include "option_checks.h"
#include "verbs.h"

namespace {

using ondol::concat;
using ondol::UsageError;
using Ids = std::vector<int32_t>;

struct Options {
  std::string model;
  std::optional<std::string> prompt, prompt_ids, prompt_file, chat;
  int64_t batch = 8;
  GenerateFlags flags;
};

struct Prompt {
  std::string text;
  Ids ids;
};

Ids parse_ids(const std::string& text) {
  Ids ids;
  const char* at = text.data();
  const char* end = at + text.size();
  while (at < end) {
    int32_t id = 0;
    const auto [next, error] = std::from_chars(at, end, id);
    const bool separated = next == end || (*next == ',' && next + 1 < end);
    if (error != std::errc{} || !separated) {
      throw UsageError(concat("not a list of token ids: \"", text, "\" (--prompt-ids)"), "write them as 5,17,2");
    }
    ids.push_back(id);
    at = next == end ? end : next + 1;
  }
  return ids;
}

std::string join_ids(const Ids& ids) {
  std::string text;
  for (const int32_t id : ids) text += (text.empty() ? "" : ",") + std::to_string(id);
  return text;
}

std::vector<std::string> read_lines(const std::string& path) {
  std::vector<std::string> lines;
  ondol::TextReader reader(path);
  for (std::string line; reader.read_line(line);) lines.push_back(line);
  if (lines.empty()) throw UsageError(concat("no prompt in it (", path, ")"));
  return lines;
}

struct Conversation {
  std::string json;   // an object with "messages"
  std::string place;  // where it begins
};

/// Conversations of a JSONL file: one a line (an array of messages, or an object with "messages"), or one for the whole
/// file when its lines are messages.
std::vector<Conversation> read_conversations(const std::string& path) {
  std::vector<Conversation> conversations;
  std::string messages;
  int64_t number = 0;
  for (const std::string& line : read_lines(path)) {
    const std::string place = concat(path, " line ", ++number);
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    const ondol::Json value = ondol::parse_json(line, place);
    if (value.is_object() && value.contains("role")) {
      messages += (messages.empty() ? "" : ",") + line;
    } else if (value.is_object() && value.contains("messages")) {
      conversations.push_back({line, place});
    } else if (value.is_array()) {
      conversations.push_back({"{\"messages\":" + line + "}", place});
    } else {
      throw UsageError(concat("neither a message nor a conversation (", place, ")"),
                       R"(write {"role": …, "content": …} lines, or {"messages": […]} lines)");
    }
  }
  if (!messages.empty()) {
    if (!conversations.empty()) throw UsageError(concat("messages and conversations are mixed (", path, ")"));
    conversations.push_back({"{\"messages\":[" + messages + "]}", path});
  }
  if (conversations.empty()) throw UsageError(concat("no conversation in it (", path, ")"));
  return conversations;
}

std::vector<Prompt> read_prompts(const Options& options, const ondol::Model& model, const ondol::Tokenizer* tokenizer) {
  if (options.prompt_ids) {
    Prompt prompt{*options.prompt_ids, parse_ids(*options.prompt_ids)};
    if (tokenizer != nullptr) {
      const auto known = [&](int32_t id) { return id >= 0 && id < tokenizer->vocab_size(); };
      if (std::all_of(prompt.ids.begin(), prompt.ids.end(), known)) prompt.text = tokenizer->decode(prompt.ids);
    }
    return {prompt};
  }
  std::vector<Prompt> prompts;
  if (options.chat) {
    const auto chat = ondol::ChatTemplate::of(*tokenizer);
    for (const Conversation& conversation : read_conversations(*options.chat)) {
      try {
        const std::string text = chat.render_json(conversation.json);
        prompts.push_back({text, tokenizer->encode(text, {.add_special_tokens = false})});
      } catch (const UsageError& error) {
        throw UsageError(concat(error.what(), " (", conversation.place, ")"), error.hint());
      }
    }
    return prompts;
  }
  const auto texts = options.prompt ? std::vector<std::string>{*options.prompt} : read_lines(*options.prompt_file);
  for (const std::string& text : texts) prompts.push_back({text, ondol::encode_prompt(model, *tokenizer, text)});
  return prompts;
}

OrderedJson answer(const Prompt& prompt, const ondol::GenerateResult& result) {
  const double tokens = static_cast<double>(result.tokens.size());
  const double seconds = result.seconds_prefill + result.seconds_decode;
  return {{"prompt", prompt.text},
          {"text", result.text},
          {"tokens", result.tokens},
          {"finish_reason", ondol::to_string(result.finish_reason)},
          {"prompt_tokens", result.prompt_tokens},
          {"generated_tokens", result.tokens.size()},
          {"seconds_prefill", result.seconds_prefill},
          {"seconds_decode", result.seconds_decode},
          {"tokens_per_second", seconds > 0 ? tokens / seconds : 0.0}};
}

void run_generate(const Options& options, const GlobalOptions& global) {
  const int sources = options.prompt.has_value() + options.prompt_ids.has_value() + options.prompt_file.has_value() +
                      options.chat.has_value();
  if (sources != 1) {
    throw UsageError("give one of --prompt, --prompt-ids, --prompt-file and --chat", "see ondol generate --help");
  }
  ondol::GenerateOptions generation = options.flags.resolve(0.0f);
  ondol::check_sampling_options(generation.sampling);
  const auto model = load_model_directory(options.model, global);
  std::optional<ondol::Tokenizer> tokenizer;
  if (options.prompt_ids && generation.stop.empty()) {
    tokenizer = find_model_tokenizer(options.model, *model);
  } else {
    tokenizer = load_model_tokenizer(options.model, *model);
  }
  const ondol::Tokenizer* reader = tokenizer ? &*tokenizer : nullptr;
  const std::vector<Prompt> prompts = read_prompts(options, *model, reader);
  const bool stream = !global.json && prompts.size() == 1;
  if (stream) {
    generation.on_text = [](size_t, const std::string& piece) {
      write_output(piece);
      flush_output();
    };
  }
  const size_t batch = static_cast<size_t>(options.batch);
  for (size_t begin = 0; begin < prompts.size(); begin += batch) {
    const size_t end = std::min(prompts.size(), begin + batch);
    std::vector<Ids> ids;
    for (size_t i = begin; i < end; ++i) ids.push_back(prompts[i].ids);
    const std::vector<ondol::GenerateResult> results = ondol::generate_ids(*model, ids, generation, reader);
    for (size_t i = begin; i < end; ++i) {
      const ondol::GenerateResult& result = results[i - begin];
      if (global.json) {
        write_json(answer(prompts[i], result));
      } else {
        write_output(reader == nullptr ? join_ids(result.tokens) + "\n" : (stream ? "" : result.text) + "\n");
      }
    }
  }
}

}  // namespace

void add_generate_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = program.app.add_subcommand("generate", "Continue prompts with a model");
  verb->add_option("MODEL_DIR", options->model, "Model directory")->required();
  verb->add_option("--prompt", options->prompt, "Text to continue");
  verb->add_option("--prompt-ids", options->prompt_ids, "Token ids to continue, as 5,17,2; needs no tokenizer");
  verb->add_option("--prompt-file", options->prompt_file, "File with one prompt a line; one answer for each, in order");
  verb->add_option("--chat", options->chat,
                   "JSONL: conversations, one {\"messages\": […]} a line, or one conversation with a message a line");
  verb->add_option("--batch", options->batch, "Prompts that run together")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  options->flags.add_to(verb);
  verb->add_option("--beams", options->flags.options.num_beams, "More than 1: beam search")
      ->check(whole_number<int64_t>())
      ->capture_default_str();
  verb->add_option("--length-penalty", options->flags.options.length_penalty, "Of beam search; above 0 favours length")
      ->capture_default_str();
  verb->add_flag("--early-stopping", options->flags.options.early_stopping, "End the search with the first full set");
  verb->add_flag("--ignore-eos", options->flags.options.ignore_eos, "Go on after the model's end token");
  program.run_on(verb, [options, &program] { run_generate(*options, program.global); });
}
